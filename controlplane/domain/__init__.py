"""The domain objects as plain data, and the rules that agents and controllers share."""
