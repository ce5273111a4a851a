"""A thread of the agent that does one thing over and over until it has to stop, and its events.

The event loop takes them, from threads and from signals.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LinkChange:
    """Something about our interface changed."""


@dataclass(frozen=True)
class Changed:
    """A fact changed that has to be in the status file without delay."""


@dataclass(frozen=True)
class WorkerDeath:
    """Another thread ended by a bug of ours."""

    name: str


@dataclass(frozen=True)
class Stop:
    """A signal requested the agent's end."""

    signal: int


@dataclass(frozen=True)
class Reload:
    """A signal requested that the settings are read again."""


class Worker(threading.Thread, ABC):
    """A daemon thread. ``on_death`` is called with its name if a bug of ours ends it.

    ``requested`` guards what other threads request of it; a ``step`` may wait on it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.ending = threading.Event()
        self.requested = threading.Condition()
        self.on_death: Callable[[str], None] = lambda _: None

    @abstractmethod
    def step(self) -> float:
        """Do one round; return how many seconds to pause before the next."""

    def run(self) -> None:
        """Run rounds until ``stop``."""
        ended_well = False
        try:
            while not self.ending.is_set():
                self.pause(self.step())
            ended_well = True
        finally:
            if not ended_well:
                self.on_death(self.name)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until ``stop``."""
        if seconds > 0:
            self.ending.wait(seconds)

    def stop(self) -> None:
        """Request the end; it may be in the middle of something that takes a while."""
        self.ending.set()
        with self.requested:
            self.requested.notify_all()


class Backoff:
    """How many seconds to pause after failures in a row: doubling, bounded."""

    def __init__(self, first: float = 0.2, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def failed(self) -> float:
        """Return how long to pause now."""
        pause, self._next = self._next, min(self._longest, self._next * 2)
        return pause

    def succeeded(self) -> None:
        """Start from the first pause again."""
        self._next = self._first
