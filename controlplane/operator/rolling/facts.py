"""What a rolling run knows of the fleet at one moment, and of the servers that it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.objects import ServerState
from controlplane.operator.drain import DrainProgress


class Mark(NamedTuple):
    """Which report of a server this is: the run of its agent, and the report's number."""

    run: str = ""
    sequence: int = -1


NO_MARK = Mark()


class Sign(NamedTuple):
    """Something wrong. ``server`` is empty if it is about the fleet."""

    server: str
    text: str


@dataclass(frozen=True)
class ServerFacts:
    """One server now.

    ``heard``: its agent reports. ``ready``: it does not lack anything. ``unhealthy``: services
    whose check fails, with the reason; ``unchecked``: services without a verdict yet.
    ``notice_seconds``: how long a service that has failed may still count as healthy.
    ``lacking``: what keeps it from its share, by pool, if waiting helps. ``lost_by``: servers that
    do not reach it. ``request``: the drain that is requested, ``held``: why it waits.
    """

    state: ServerState | None
    mark: Mark = NO_MARK
    heard: bool = False
    stopped: bool = False
    leaving: bool = False
    ready: bool = False
    drain: DrainProgress = field(default_factory=lambda: DrainProgress(0, (), None, noted=False))
    request: DrainRequest | None = None
    held: tuple[str, ...] = ()
    unhealthy: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    notice_seconds: float = 0.0
    lacking: tuple[str, ...] = ()
    lost_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetFacts:
    """All servers now.

    ``waiting``: documents that are not settled, with whom they wait for. ``forced``: hops that the
    controller has pushed out of chains since its start, by pool; ``None``: not reported.
    ``strays``: server -> connections that no table leads to; without those that do not report it.
    ``proved``: server -> its connections that another one answered with a reset, since the
    controller's start.
    """

    servers: Mapping[str, ServerFacts] = field(default_factory=dict)
    signs: frozenset[Sign] = frozenset()
    waiting: tuple[str, ...] = ()
    forced: Mapping[str, int] | None = None
    strays: Mapping[str, int] = field(default_factory=dict)
    proved: Mapping[str, int] = field(default_factory=dict)


class Phase(StrEnum):
    """How far one server is. The value is what people read."""

    WAITING = "waiting"
    DRAINING = "draining"
    COMMAND = "command runs"
    RETURNING = "returning"
    """The command has ended; the server has to show that it is well."""
    JOINING = "joining"
    """Its drain is cancelled; it has to get its share."""
    DONE = "done"


@dataclass(frozen=True)
class Limits:
    """How long to wait for what, in seconds. ``restarts_agent``: the command restarts the agent."""

    connections_seconds: float = 600.0
    command_seconds: float = 600.0
    ready_seconds: float = 600.0
    share_seconds: float = 1800.0
    restarts_agent: bool = False


@dataclass
class Turn:
    """One server's turn. Times are monotonic seconds.

    ``refusals``: how often a guard did not allow its drain, ``held``: the controller's own; both in
    a row. ``code``: how its command ended. ``left``: connections that it had when that began.
    ``before``: its last report when the command began; ``reports``: marks that were first seen
    after the command ended. ``healthy_since``: since when all checks pass. ``probed``: ``None``
    without an answer yet, empty: a probe through the tunnel has passed, else what was wrong.
    """

    name: str
    dip: str
    phase: Phase = Phase.WAITING
    since: float = 0.0
    request: DrainRequest | None = None
    refusals: int = 0
    held: int = 0
    code: int | None = None
    before: Mark = NO_MARK
    after: Mark = NO_MARK
    reports: set[Mark] = field(default_factory=set)
    healthy_since: float | None = None
    probed: str | None = None
    was_well: bool = False
    left: int | None = None
    text: str = ""
    """What it waits for now, for people."""

    def enter(self, phase: Phase, now: float) -> None:
        """Begin a phase."""
        self.phase, self.since, self.text = phase, now, ""

    def command_ended(self, now: float, mark: Mark) -> None:
        """Begin to judge the server by what it reports from now on, not by what it reported."""
        self.enter(Phase.RETURNING, now)
        self.after = mark
        self.reports.clear()
        self.healthy_since, self.probed, self.was_well = None, None, False

    def observe(self, facts: ServerFacts, now: float) -> None:
        """Take what a server reports while it returns and joins."""
        if facts.heard and facts.mark != self.after:
            self.reports.add(facts.mark)
        if facts.unhealthy or facts.unchecked or not facts.heard:
            self.healthy_since = None
        elif self.healthy_since is None:
            self.healthy_since = now
