"""Errors that a person sees as one line, and the exit codes of commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell gets from a command that did not succeed."""

    FAILED = 1
    USAGE = 2
    """The command line or a settings file is wrong."""
    REFUSED = 3
    """Something that is not ours is in the way; nothing was changed."""
    TIMEOUT = 4
    UNAVAILABLE = 5
    """The store does not answer."""
    INTERRUPTED = 130


class BrigadeError(Exception):
    """Something went wrong that one line explains, remedy included."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ConfigError(BrigadeError):
    """A file or an option is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.USAGE)


class SettingsError(ConfigError):
    """A settings file has mistakes: ``faults`` has one line for each, the most useful first.

    The message has only the first, and the command that lists all. ``against``: the store without
    which that command would not find them.
    """

    def __init__(self, path: object, faults: Sequence[str], against: str = "") -> None:
        command = ["lbctl", "check", str(path), *(["--against", against] if against else [])]
        count = len(faults) - 1
        more = f" (and {count} more; `{shlex.join(command)}` lists them)" if count else ""
        super().__init__(f"{path}: {faults[0]}{more}")
        self.faults = tuple(faults)


class UsageError(ConfigError):
    """The command line asks for something impossible."""
