"""Errors that a person sees as one line, with the exit code of the command that met them."""

from __future__ import annotations

from typing import Final

EXIT_REFUSED: Final = 3


class BrigadeError(Exception):
    """Something went wrong that one line explains, remedy included."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ConfigError(BrigadeError):
    """A file or an option is wrong: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


class UsageError(ConfigError):
    """The command was called in a way it cannot serve: exit code 2."""
