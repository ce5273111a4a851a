"""The `http:` store: the agents' part of a `file:` store, served by a controller."""
