"""The journal of a rolling run: JSON lines, each on disk before what it announces is done.

A line that a power cut left half written, which can only be the last, counts as not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError
from controlplane.operator.rolling.facts import NO_MARK, Mark, Phase

Event = dict[str, Any]

BEGIN, RESUMED, STOPPED, END = "begin", "resumed", "stopped", "end"
DRAIN, HELD, COMMAND, ENDED = "drain", "drain_held", "command", "command_ended"
SKIPPED, UNDRAIN, DONE = "command_skipped", "undrain", "done"
CANCELLED, FOUND = "drain_cancelled", "found"


class Journal:
    """Appends events to a file, each in one write that is flushed to disk. Owner of the file.

    ``clock``: Unix seconds, for people.

    Raises ``BrigadeError``: the file cannot be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        with _errors(path):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, _whole(path.read_bytes()))
            _flush_folder(path.parent)

    def write(self, event: str, **values: Any) -> Event:
        """Append an event, and return it. It is on disk when this returns."""
        found = {"at": round(self._clock(), 3), "event": event, **values}
        line = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with _errors(self.path):
            written = os.write(self._file, line)
            os.fsync(self._file)
        if written != len(line):
            raise BrigadeError(f"cannot write {self.path}: the disk is full")
        return found

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _whole(data: bytes) -> int:
    """Return the length of the lines that are complete."""
    return data.rfind(b"\n") + 1


def _flush_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BrigadeError(
            f"cannot write the journal {path}: {error.strerror}; --journal names another file"
        ) from error


@dataclass
class Progress:
    """How far one server was. ``code``: how its command ended, ``None``: it did not end."""

    phase: Phase
    request: DrainRequest | None = None
    before: Mark = NO_MARK
    after: Mark = NO_MARK
    code: int | None = None
    left: int | None = None

    @property
    def needs_choice(self) -> bool:
        """Whether only a person knows if the command may run again."""
        return self.phase is Phase.COMMAND and self.code != 0


@dataclass
class History:
    """What a journal holds. ``begin``: the options of the run. ``seconds``: how long it ran."""

    begin: Event
    servers: dict[str, Progress] = field(default_factory=dict)
    seconds: float = 0.0
    ended: bool = False

    def open_servers(self) -> dict[str, Progress]:
        """Return the servers whose turn has begun and is not over."""
        over = (Phase.WAITING, Phase.DONE)
        return {name: one for name, one in self.servers.items() if one.phase not in over}


def read_journal(path: Path) -> History:
    """Read a journal.

    Raises:
        BrigadeError: it cannot be read, is damaged, or is not a journal.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BrigadeError(f"cannot read the journal {path}: {error.strerror}") from error
    events = []
    for number, line in enumerate(data[: _whole(data)].splitlines(), 1):
        try:
            event = json.loads(line)
            events.append(event if isinstance(event["event"], str) else event["at"])
        except (ValueError, KeyError, TypeError):
            raise BrigadeError(f"{path}: line {number} is damaged") from None
    if not events or events[0].get("event") != BEGIN:
        raise BrigadeError(f"{path} is not the journal of a rolling run")
    try:
        return replay(events)
    except (KeyError, TypeError, ValueError) as error:
        raise BrigadeError(f"{path}: an event is damaged: {error!r}") from None


def replay(events: list[Event]) -> History:
    """Return what a run's events add up to."""
    found = History(events[0])
    for event in events[1:]:
        if name := event.get("server"):
            _take(found.servers, name, event)
        if event["event"] in (STOPPED, END):
            found.seconds += event["seconds"]
        found.ended = event["event"] == END
    return found


def _take(servers: dict[str, Progress], name: str, event: Event) -> None:
    one = servers.setdefault(name, Progress(Phase.WAITING))
    match event["event"]:
        case "drain":
            servers[name] = Progress(Phase.DRAINING, DrainRequest(**event["request"]))
        case "drain_held" | "drain_cancelled":
            servers[name] = Progress(Phase.WAITING)
        case "command":
            one.phase, one.code, one.left = Phase.COMMAND, None, event["connections"]
            one.before = Mark(*event["report"])
        case "command_ended":
            one.code, one.after = event["code"], Mark(*event["report"])
            if one.code == 0:
                one.phase = Phase.RETURNING
        case "command_skipped":
            one.phase, one.code, one.after = Phase.RETURNING, None, Mark(*event["report"])
        case "undrain":
            one.phase = Phase.JOINING
        case "done":
            one.phase = Phase.DONE


def request_of(request: DrainRequest) -> Mapping[str, Any]:
    """Return a request to drain as an event has it."""
    return vars(request)
