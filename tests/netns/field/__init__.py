"""Faults that a day in operation showed, one file a kind: what must be seen instead."""
