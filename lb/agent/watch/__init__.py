"""What this server relies on: looked at all the time, put back, or a reason not to be ready."""
