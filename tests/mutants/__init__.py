"""Mutants: faults put in on purpose, each of which a named selection of tests must notice.

``mutants.toml`` lists them, ``python -m tests.mutants`` tries them one by one on copies of the
tracked tree. To add one, add a row: ``file``, the ``old`` text that stands there exactly once, the
``new`` text with the fault, and the tests that must fail. ``python -m tests.mutants --check`` lists
the rows whose ``old`` does not match.
"""
