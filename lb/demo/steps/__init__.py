"""The steps of the demo, one file for each kind of event."""
