"""Benchmarks: what a packet costs, what a table costs."""
