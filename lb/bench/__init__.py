"""Benchmarks: the cost of a packet, and of building a table."""
