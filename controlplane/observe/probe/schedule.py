"""When each silent server is probed, and how many probes failed. Clock and sender are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from controlplane.observe.probe.packet import Probe, ProbeAnswer, answers

Send = Callable[[str], Probe | None]
"""Sends one probe to the server of this name, ``None`` if it could not be sent."""
REMEMBERED = 8
"""Probes per server whose late answers still count."""
RESETS = 3
"""Probes of a service in a row that are answered with a reset, until it counts as failing."""


@dataclass
class ProbedServer:
    """One silent server: its recent probes, newest last, and how many failed in a row."""

    due_at: float
    failed: int = 0
    answered: bool = True
    """Whether the newest probe is answered. True before the first probe."""
    probes: list[Probe] = field(default_factory=list)
    sent: int = 0
    resets: dict[str, int] = field(default_factory=dict)
    """Service -> how many probes of it in a row were answered with a reset."""

    def take(self, probe: Probe, *, reset: bool) -> None:
        """Count an answer to one of the probes; a second answer to it does not count."""
        self.probes.remove(probe)
        self.answered = True
        self.failed = 0
        if probe.service:
            self.resets[probe.service] = self.resets.get(probe.service, 0) + 1 if reset else 0


class ProbeSchedule:
    """Probes each silent server every ``interval_seconds``; an unanswered probe has failed."""

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._servers: dict[str, ProbedServer] = {}
        self.sent = 0
        self.unanswered = 0

    def round(self, silent: Collection[str], now: float, send: Send) -> None:
        """Count the probes that failed and send those that are due. Call ``hear`` before.

        A server that is not ``silent`` any longer is forgotten.
        """
        self._servers = {n: t for n, t in self._servers.items() if n in silent}
        for name in silent:
            server = self._servers.setdefault(name, ProbedServer(due_at=now))
            if now < server.due_at:
                continue
            if not server.answered:
                server.failed += 1
                self.unanswered += 1
            probe = send(name)
            server.answered = probe is None  # a probe that was not sent cannot fail
            server.due_at = now + self.interval_seconds
            if probe:
                self.sent += 1
                server.sent += 1
                server.probes = [*server.probes, probe][-REMEMBERED:]

    def hear(self, received: Iterable[ProbeAnswer]) -> set[str]:
        """Match received answers with recent probes; return the servers that answered."""
        alive = set()
        for answer in received:
            for name, server in self._servers.items():
                probe = next((p for p in server.probes if answers(answer, p)), None)
                if probe:
                    server.take(probe, reset=answer.reset)
                    alive.add(name)
        return alive

    def refused(self) -> dict[str, frozenset[str]]:
        """Return, for each silent server, the services where nothing listens any more."""
        return {
            name: frozenset(s for s, count in server.resets.items() if count >= RESETS)
            for name, server in self._servers.items()
        }

    def turn(self, name: str) -> int:
        """Return how many probes were sent to this server since it became silent."""
        server = self._servers.get(name)
        return server.sent if server else 0

    def failed(self) -> dict[str, int]:
        """Return, for each silent server, how many probes in a row went unanswered."""
        return {name: server.failed for name, server in self._servers.items()}

    def next_due(self) -> float | None:
        """When the next probe is due, ``None`` if no server is silent."""
        return min((server.due_at for server in self._servers.values()), default=None)
