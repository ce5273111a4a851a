"""Which silent server is probed when, and what its probes say. Clock and sender are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from controlplane.observe.probe.packet import Answer, Probe, answers

Send = Callable[[str], Probe | None]
"""Sends one probe to the server of this name; ``None``: it could not be sent."""
REMEMBERED = 8
"""Probes of a server whose late answers still count."""


@dataclass
class Target:
    """One silent server: its recent probes, newest last, and how many failed in a row."""

    due_at: float
    failed: int = 0
    answered: bool = True
    """Whether the newest probe needs no more waiting (at first there is none)."""
    probes: list[Probe] = field(default_factory=list)


class Probing:
    """Probes each silent server every ``interval_seconds``; an unanswered one is a failed one."""

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._targets: dict[str, Target] = {}
        self.sent = 0
        self.unanswered = 0

    def round(self, silent: Collection[str], now: float, send: Send) -> None:
        """Judge the probes whose time is up and send those that are due.

        A server that is not ``silent`` any longer is forgotten. Hand in answers before.
        """
        self._targets = {n: t for n, t in self._targets.items() if n in silent}
        for name in silent:
            target = self._targets.setdefault(name, Target(due_at=now))
            if now < target.due_at:
                continue
            if not target.answered:
                target.failed += 1
                self.unanswered += 1
            probe = send(name)
            target.answered = probe is None  # what was never sent cannot fail
            target.due_at = now + self.interval_seconds
            if probe:
                self.sent += 1
                target.probes = [*target.probes, probe][-REMEMBERED:]

    def hear(self, received: Iterable[Answer]) -> set[str]:
        """Match what came in with recent probes; returns the servers that proved to live."""
        alive = set()
        for answer in received:
            for name, target in self._targets.items():
                if any(answers(answer, probe) for probe in target.probes):
                    target.answered = True
                    target.failed = 0
                    alive.add(name)
        return alive

    def failed(self) -> dict[str, int]:
        """Return, for each silent server, how many probes in a row went unanswered."""
        return {name: target.failed for name, target in self._targets.items()}

    def next_due(self) -> float | None:
        """When the next probe is due, ``None``: nobody is silent."""
        return min((target.due_at for target in self._targets.values()), default=None)
