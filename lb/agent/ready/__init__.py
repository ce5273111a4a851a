"""What follows from readiness: hooks, the ready file, systemd."""
