"""Mutants: faults put in on purpose, each of which a named selection of tests must notice.

``mutants.toml`` lists them, ``patches/`` holds one patch each, ``python -m tests.mutants`` tries
them one by one on copies of the tracked tree. To add one: make the fault in a work tree of its own,
``git diff -U2 > tests/mutants/patches/NAME.patch``, and name the tests that must fail.
"""
