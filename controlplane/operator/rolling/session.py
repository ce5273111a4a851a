"""From options, or from a journal, to the turns of a run; and that there is one run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.domain.store_url import directory_of
from controlplane.operator.requests import request_text
from controlplane.operator.rolling import journal
from controlplane.operator.rolling.facts import FleetFacts, Limits, Phase, ServerFacts, Turn
from controlplane.operator.rolling.journal import History, Journal, Progress, read_journal

RERUN, SKIP = "rerun", "skip"
SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Options:
    """What a run does; its journal keeps it, so that it can go on."""

    store: str
    servers: tuple[tuple[str, str], ...]
    command: tuple[str, ...]
    at_once: int
    limits: Limits
    reason: str

    def as_values(self) -> dict[str, Any]:
        """Return them as the first event of a journal has them."""
        return {**asdict(self), "limits": asdict(self.limits)}


def options_of(begin: Mapping[str, Any]) -> Options:
    """Return the options that the first event of a journal has. Raises ``BrigadeError``."""
    try:
        return Options(
            str(begin["store"]),
            tuple((str(name), str(dip)) for name, dip in begin["servers"]),
            tuple(map(str, begin["command"])),
            int(begin["at_once"]),
            Limits(**begin["limits"]),
            str(begin["reason"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrigadeError(f"the journal's first line is damaged: {error!r}") from None


def journal_folder(store_url: str) -> Path:
    """Return the folder of journals: beside the controller's store."""
    return directory_of(store_url).absolute().with_name("rolling")


def new_journal(folder: Path) -> Path:
    """Return a path of a new journal: a number above all others there, so that it sorts last."""
    numbers = [int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal()]
    return folder / f"{max(numbers, default=0) + 1:06d}{SUFFIX}"


def newest_unfinished(folder: Path, store_url: str) -> Path | None:
    """Return the newest journal in this folder of a run that did not end, ``None`` for none.

    Raises ``BrigadeError``: the newest one of this store is damaged.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        found = read_journal(path)
        if found.begin.get("store") == store_url:
            return None if found.ended else path
    return None


@contextmanager
def only_run(store_url: str) -> Iterator[None]:
    """Hold the lock of rolling runs of this store; the kernel releases it if this process dies.

    Raises:
        BrigadeError: exit code 3, another run has it.

    """
    path = directory_of(store_url) / "rolling.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BrigadeError(f"cannot open {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            raise BrigadeError(
                f"another lbctl rolling works on this fleet (process {holder}): wait for its end, "
                "or interrupt it there",
                ExitCode.REFUSED,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def check_no_leftover(folder: Path, store_url: str, requests: Mapping[str, DrainRequest]) -> None:
    """Check that no earlier run has left a server drained.

    Raises:
        BrigadeError: exit code 3, one has; the message has the commands to go on or to end it.

    """
    path = newest_unfinished(folder, store_url)
    if path is None:
        return
    opened = read_journal(path).open_servers()
    left = [name for name, one in opened.items() if requests.get(name) == one.request]
    if left:
        names = ", ".join(left)
        raise BrigadeError(
            f"an earlier run stopped with {names} drained. To go on: lbctl rolling --resume "
            f"--journal {path}; to end it: {undrain_text(left)}",
            ExitCode.REFUSED,
        )


def undrain_text(names: list[str]) -> str:
    """Return the commands that cancel these drains."""
    return "; ".join(f"lbctl undrain {name}" for name in names)


@dataclass(frozen=True)
class Resumption:
    """Goes on where a journal ends. ``choice``: what to do with commands that did not succeed."""

    path: Path
    history: History
    options: Options
    choice: str | None

    def check(self) -> None:
        """Check that a person has decided about each command that did not succeed.

        Raises:
            UsageError: nobody has.

        """
        if self.history.ended:
            raise UsageError(f"{self.path}: this run has ended: there is nothing to resume")
        for name, _ in self.options.servers:
            one = self.history.servers.get(name)
            if one and one.needs_choice and self.choice is None:
                how = "began and did not end" if one.code is None else f"failed ({one.code})"
                raise UsageError(
                    f"the command for {name} {how}, so look at {name} and choose: --resume --rerun "
                    "runs it again, --resume --skip goes on as if it had succeeded"
                )

    def turns(self, facts: FleetFacts, written: Journal, now: float) -> list[Turn]:
        """Return the turns as the journal leaves them, and as the fleet is now.

        Raises:
            BrigadeError: exit code 3, somebody else has drained a server meanwhile.

        """
        turns = []
        for name, dip in self.options.servers:
            turn = Turn(name, dip, since=now)
            one = self.history.servers.get(name)
            if one is not None:
                self._restore(turn, one, facts.servers.get(name, ServerFacts(None)), now)
                if one.needs_choice and turn.phase in (Phase.RETURNING, Phase.JOINING):
                    written.write(journal.SKIPPED, server=name, report=list(turn.after))
                    if turn.phase is Phase.JOINING:
                        written.write(journal.UNDRAIN, server=name)
            turns.append(turn)
        return turns

    def _restore(self, turn: Turn, one: Progress, found: ServerFacts, now: float) -> None:
        """Set a turn to the phase from which it goes on."""
        if one.phase in (Phase.WAITING, Phase.DONE):
            turn.phase = one.phase
            return
        if found.request is not None and found.request != one.request:
            raise BrigadeError(
                f"the drain of {turn.name} was requested meanwhile{request_text(found.request)}",
                ExitCode.REFUSED,
            )
        drained, turn.request = found.request is not None, one.request
        turn.before, turn.left, turn.code = one.before, one.left, one.code
        begun = one.phase in (Phase.COMMAND, Phase.RETURNING)
        if one.phase is Phase.DRAINING or (begun and self.choice == RERUN):
            turn.phase = Phase.DRAINING if drained else Phase.WAITING
            return
        turn.command_ended(now, found.mark if one.needs_choice else one.after)
        turn.phase = Phase.RETURNING if drained else Phase.JOINING
