"""The `file:` store: a directory on one machine."""
