"""What operators ask of a running cluster, and what they are shown."""
