"""Probes the paths to the other servers inside the encapsulation, and finds their MTU."""
