"""The steps of the demo, one file an event."""
