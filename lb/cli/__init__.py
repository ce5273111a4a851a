"""The command `lbctl`, one file for each of its commands.

A file `lb/cli/NAME.py` that defines `command` (a click command) is `lbctl NAME`; the first line of
its docstring is what `lbctl --help` says about it. Nothing is registered anywhere, and a file is
imported only when its command runs. Files whose names start with `_` are helpers.
"""
