"""Runs the operator's command for servers: without a shell, each with a file for its output."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.domain.errors import BrigadeError, UsageError
from controlplane.domain.names import closest
from controlplane.operator.rolling.run import CommandEnd

REPLACED = ("name", "dip")
"""What a command may have in braces."""
LIKENESS = 0.75
"""So alike is a misspelled name; others may be meant for the command itself: `awk {print}`."""
END_SECONDS = 5.0
"""Between SIGTERM and SIGKILL for a command that takes too long."""
TAIL_LINES = 5
TAIL_BYTES = 4096


def words_for(command: Sequence[str], name: str, dip: str) -> list[str]:
    """Return a command with ``{name}`` and ``{dip}`` replaced; other braces stay."""
    return [word.replace("{name}", name).replace("{dip}", dip) for word in command]


def is_the_same_for_all(command: Sequence[str]) -> bool:
    """Return whether a command has nothing that is replaced."""
    return not any(f"{{{name}}}" in word for name in REPLACED for word in command)


def check_command(command: Sequence[str], servers: Sequence[tuple[str, str]]) -> None:
    """Check that this machine has the program, for each server, and the names in braces.

    Raises:
        UsageError: it does not, a name in braces is misspelled, or there is no command.

    """
    if not command:
        raise UsageError("there is no command: lbctl rolling [OPTIONS] -- COMMAND {name} {dip}")
    for word in re.findall(r"\{([a-z_]+)\}", " ".join(command)):
        meant = closest(word, REPLACED, LIKENESS)
        if meant not in (None, word):
            raise UsageError(f"{{{word}}} would stay as it is; did you mean {{{meant}}}?")
    for program in {words_for(command[:1], name, dip)[0] for name, dip in servers}:
        if shutil.which(program) is None:
            raise UsageError(f"this machine does not have the command {program}: nothing was done")


@dataclass
class _Running:
    popen: subprocess.Popen[bytes]
    ends_at: float
    late: bool = False


class Commands:
    """The commands that run, one a server. For one thread.

    Each has a session of its own: Ctrl-C of the terminal does not end it in the middle.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        limit_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._command = tuple(command)
        self._folder = folder
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._running: dict[str, _Running] = {}

    def output_file(self, name: str) -> Path:
        """The file that has the output of a server's command."""
        return self._folder / f"{name}.log"

    def start(self, name: str, dip: str) -> None:
        """Start the command for a server. Raises ``BrigadeError``: it cannot be started."""
        words = words_for(self._command, name, dip)
        try:
            self._folder.mkdir(exist_ok=True)
            with self.output_file(name).open("ab") as output:
                popen = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise BrigadeError(f"{name}: cannot start {words[0]}: {error.strerror}") from error
        self._running[name] = _Running(popen, self._clock() + self._limit_seconds)

    def ended(self, name: str) -> int | None:
        """Return the exit code once the command has ended; it is ended when its time is over."""
        running = self._running.get(name)
        if running is None:
            return CommandEnd.NOT_STARTED
        code = running.popen.poll()
        now = self._clock()
        if code is None and now >= running.ends_at:
            self._signal(running, signal.SIGKILL if running.late else signal.SIGTERM)
            running.late, running.ends_at = True, now + END_SECONDS
        if code is None:
            return None
        del self._running[name]
        if running.late:
            self._signal(running, signal.SIGKILL)  # what it started, and left behind
            return CommandEnd.TIMEOUT
        return code

    def abandon(self) -> list[str]:
        """Send SIGTERM to all that run, and do not wait; return their servers."""
        for running in self._running.values():
            self._signal(running, signal.SIGTERM)
        return sorted(self._running)

    def tail(self, name: str) -> list[str]:
        """Return the last lines of a command's output."""
        try:
            with self.output_file(name).open("rb") as output:
                output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = output.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        return lines[-TAIL_LINES:]

    def _signal(self, running: _Running, number: signal.Signals) -> None:
        """Send a signal to the command and what it has started in its session's group."""
        try:
            os.killpg(running.popen.pid, number)
        except ProcessLookupError:
            return
