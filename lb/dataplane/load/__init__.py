"""Compiles, loads and pins the BPF programs."""
