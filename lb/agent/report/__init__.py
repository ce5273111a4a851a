"""What the agent measures and reports: checks, load, connections, status, metrics."""
