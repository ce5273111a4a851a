"""The agent: the process that `lbctl up` is, on each server."""
