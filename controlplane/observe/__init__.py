"""Observe: heartbeats, load, probes. The effects of reading the fleet."""
