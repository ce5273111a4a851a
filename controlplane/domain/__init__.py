"""The words of the field as plain data, and the rules that both sides of the store share."""
