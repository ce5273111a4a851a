"""The command `lbctl`: one file for each of its commands.

A file `lb/cli/NAME.py` that defines `command` (a click command) is `lbctl NAME`. The docstring of
`command` is its help, and `lbctl --help` lists the first line of it. Nothing is registered, and a
file is imported only when its command runs. Files whose names start with `_` are helpers.
"""
