"""Forwarding tables, pool state and counters in BPF maps."""
