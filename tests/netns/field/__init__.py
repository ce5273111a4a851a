"""Faults that a day in operation showed, one file a kind: what must be seen instead.

Beside them are tests that need a whole site for as long: `make field` runs all of these.
"""
