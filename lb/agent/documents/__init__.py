"""From the store to the data plane: follow, validate, take into use, keep the last good."""
