"""Mutants: faults put in on purpose, each of which a named selection of tests must notice.

``mutants.toml`` lists them, ``patches/`` holds one patch each, ``python -m tests.mutants`` tries
them on copies of the tracked tree. See ``runner``.
"""
