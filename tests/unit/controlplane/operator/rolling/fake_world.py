"""A fleet on a virtual clock, which does what a rolling run requests, and fails as tests ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.objects import ServerState
from controlplane.operator.drain import DrainProgress
from controlplane.operator.rolling.facts import FleetFacts, Limits, Mark, ServerFacts, Sign, Turn
from controlplane.operator.rolling.journal import Journal
from controlplane.operator.rolling.run import Guard, Outcome, Run

REPORT_SECONDS = 0.25
COMMAND_SECONDS = 2.0
JOIN_SECONDS = 5.0
DRAIN_SECONDS = 3.0
NOTICE_SECONDS = 6.0


@dataclass
class FakeServer:
    """One server. ``left``: connections that stay, whatever happens."""

    state: ServerState = ServerState.ACTIVE
    run: str = "boot"
    silent: bool = False
    stopped: bool = False
    ready: bool = True
    left: int = 0
    unhealthy: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    lost_by: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    request: DrainRequest | None = None
    drained_at: float | None = None
    joined_at: float | None = None
    ends_at: float | None = None
    code: int = 0
    probe: str | None = ""
    quiet_since: float | None = None
    """From then on, it has sent no report."""


@dataclass
class FakeWorld:
    """``acts``: what was done, with the event that the journal had last at that moment."""

    journal_path: Path
    servers: dict[str, FakeServer]
    now: float = 1000.0
    acts: list[tuple[str, str, str]] = field(default_factory=list)
    signs: set[Sign] = field(default_factory=set)
    forced: dict[str, int] = field(default_factory=lambda: {"web": 0})
    strays: dict[str, int] = field(default_factory=dict)
    proved: dict[str, int] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    refusals: dict[str, Guard] = field(default_factory=dict)
    on_wait: Callable[[], None] = lambda: None
    on_end: Callable[[str], None] = lambda _: None
    on_start: Callable[[str], None] = lambda _: None
    open_at_once: int = 0

    def look(self) -> FleetFacts:
        found = {name: self._facts(name, server) for name, server in self.servers.items()}
        return FleetFacts(
            *(found, frozenset(self.signs), self.waiting, dict(self.forced), dict(self.strays)),
            dict(self.proved),
        )

    def _facts(self, name: str, server: FakeServer) -> ServerFacts:
        if server.state is ServerState.JOINING and server.joined_at is not None:
            joined = self.now - server.joined_at >= JOIN_SECONDS
            server.state = ServerState.ACTIVE if joined else server.state
        empty = server.drained_at is not None and self.now - server.drained_at >= DRAIN_SECONDS
        connections = server.left if empty else 9
        noted = server.state is ServerState.DRAINING
        quiet = server.quiet_since
        reported = self.now if quiet is None else min(quiet, self.now)
        return ServerFacts(
            state=server.state,
            mark=Mark(server.run, int(reported / REPORT_SECONDS)),
            heard=not server.silent,
            stopped=server.stopped,
            ready=server.ready,
            drain=DrainProgress(0 if empty else 7, (), connections, noted=noted),
            request=server.request,
            held=server.held,
            unhealthy=server.unhealthy,
            unchecked=server.unchecked,
            notice_seconds=NOTICE_SECONDS,
            lacking=server.lacking,
            lost_by=server.lost_by,
        )

    def _act(self, what: str, name: str) -> None:
        last = json.loads(self.journal_path.read_bytes().splitlines()[-1])
        self.acts.append((what, name, f"{last['event']} {last.get('server', '')}"))

    def guard(self, server: str) -> Guard:
        return self.refusals.get(server, Guard())

    def request(self, server: str) -> DrainRequest:
        del server
        return DrainRequest("ann@ctl", self.now, "rolling")

    def drain(self, server: str, request: DrainRequest) -> None:
        self._act("drain", server)
        one = self.servers[server]
        one.request, one.drained_at = request, self.now
        if not one.held:
            one.state = ServerState.DRAINING
        working = sum(s.request is not None for s in self.servers.values())
        self.open_at_once = max(self.open_at_once, working)

    def undrain(self, server: str, request: DrainRequest | None) -> None:
        self._act("undrain", server)
        one = self.servers[server]
        if one.request == request:
            one.request, one.drained_at, one.joined_at = None, None, self.now
            if not one.held:
                one.state = ServerState.JOINING

    def start(self, turn: Turn) -> None:
        self._act("command", turn.name)
        self.servers[turn.name].ends_at = self.now + COMMAND_SECONDS
        self.on_start(turn.name)

    def ended(self, server: str) -> int | None:
        one = self.servers[server]
        if one.ends_at is None or self.now < one.ends_at:
            return None
        one.ends_at = None
        self.on_end(server)
        return one.code

    def probe(self, server: str) -> str | None:
        return self.servers[server].probe

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.on_wait()


@dataclass
class Case:
    """A run of ``s1``, ``s2``, ... in a fake world."""

    world: FakeWorld
    run: Run
    journal: Journal

    @property
    def path(self) -> Path:
        return self.journal.path

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def names(self, event: str) -> list[str]:
        return [e["server"] for e in self.events() if e["event"] == event]

    def go(self) -> Outcome:
        return self.run.run()


def case(
    folder: Path,
    servers: int = 2,
    *,
    at_once: int = 1,
    limits: Limits | None = None,
    turns: list[Turn] | None = None,
) -> Case:
    """Return a run that has not begun."""
    path = folder / "journal.jsonl"
    names = [f"s{n}" for n in range(1, servers + 1)]
    world = FakeWorld(path, {name: FakeServer() for name in names})
    journal = Journal(path, lambda: 5.0)
    if not path.stat().st_size:
        journal.write("begin")
    made = turns or [Turn(name, "10.0.0.1") for name in names]
    run = Run(made, world, journal, lambda: world.now, limits or Limits(), at_once)
    return Case(world, run, journal)
