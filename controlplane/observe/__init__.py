"""Observe: heartbeats, load, probes."""
