"""The thread that probes the paths to the other servers."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import structlog

from controlplane.domain.objects import IN_USE, Cluster, ServerState
from controlplane.domain.overhead import LEAST_MTU
from lb.agent.facts import SharedFacts
from lb.agent.path.findings import (
    Link,
    Peers,
    mtu_in_use,
    path_facts,
    path_report,
    troubles,
    unsent,
)
from lb.agent.path.packet import parse
from lb.agent.path.schedule import Fleet, Schedule
from lb.agent.path.sockets import ProbeSockets
from lb.agent.worker import Worker

LONGEST_WAIT_SECONDS = 0.125
RETRY_SECONDS = 2.0
SHOW_SECONDS = 0.25
"""How often facts are updated: as often as they are reported."""


@dataclass(frozen=True)
class Wanted:
    """What the cluster document requests."""

    fleet: Fleet
    gue_port: int
    peers: Peers


class PathProber(Worker):
    """Probes each peer in turn; what it finds goes into the facts.

    ``on_mtu`` is called from this thread whenever the MTU that the paths carry changes, with
    ``None`` if it is the interface's; ``on_change`` after a change of the TROUBLE lines. Paths that
    are narrower than ``least_mtu`` are not followed.
    """

    def __init__(
        self,
        name: str,
        own: IPv4Address,
        facts: SharedFacts,
        on_mtu: Callable[[int | None], None],
        on_change: Callable[[], None],
        least_mtu: int = LEAST_MTU,
    ) -> None:
        super().__init__("paths")
        self._least_mtu = least_mtu
        self._name = name
        self._own = own
        self._facts = facts
        self._on_mtu = on_mtu
        self._on_change = on_change
        self._log = structlog.get_logger()
        self._wanted: Wanted | None = None
        self._in_use: Wanted | None = None
        self._schedule: Schedule | None = None
        self._sockets: ProbeSockets | None = None
        self._mtu: int | None = None
        self._unsent: dict[str, str] = {}
        self._show_at = 0.0

    def follow(self, cluster: Cluster, link_mtu: int) -> None:
        """Probe the servers of this document, in whatever state: those that are down may return."""
        others = [s for s in cluster.servers if s.name != self._name and s.dip != self._own]
        known = cluster.server(self._name) is not None
        addresses = {server.name: server.dip for server in others} if known else {}
        peers = Peers(
            frozenset(server.name for server in others if server.state in IN_USE),
            frozenset(server.name for server in others if server.state is ServerState.DOWN),
        )
        with self.requested:
            self._wanted = Wanted(Fleet(self._own, addresses, link_mtu), cluster.gue_port, peers)
            self.requested.notify()

    def step(self) -> float:
        """Do one round: receive, judge, send, show; then wait for the next."""
        with self.requested:
            if self._wanted is None and not self.ending.is_set():
                self.requested.wait(LONGEST_WAIT_SECONDS)
            wanted = self._wanted
        if wanted is None:
            return 0.0
        try:
            sockets = self._open(wanted)
        except OSError as error:
            self._set_trouble("paths_send", unsent({"other servers": str(error)}))
            return RETRY_SECONDS
        self._round(sockets, self._take(wanted))
        return 0.0

    def run(self) -> None:
        """Run rounds until ``stop``, then close the sockets."""
        try:
            super().run()
        finally:
            if self._sockets is not None:
                self._sockets.close()

    def _open(self, wanted: Wanted) -> ProbeSockets:
        gue_port = wanted.gue_port
        if self._sockets is not None and self._sockets.gue_port != gue_port:
            self._sockets.close()
            self._sockets = None
        if self._sockets is None:
            self._sockets = ProbeSockets(self._own, gue_port)
        return self._sockets

    def _take(self, wanted: Wanted) -> Schedule:
        """Return the schedule for the peers that are wanted now."""
        if self._schedule is None:
            self._schedule = Schedule(wanted.fleet)
        elif wanted != self._in_use:
            self._schedule.follow(wanted.fleet)
            if self._in_use is not None:
                self._schedule.doubt(self._in_use.peers.down - wanted.peers.down)
        if wanted != self._in_use:
            self._in_use = wanted
            self._show_at = 0.0
        return self._schedule

    def _round(self, sockets: ProbeSockets, schedule: Schedule) -> None:
        for packet in sockets.received():
            found = parse(packet)
            if found is not None:
                schedule.hear(found, time.monotonic())
        now = time.monotonic()
        for probe in schedule.round(now, sockets.make):
            peer = schedule.name_of(probe)
            try:
                sockets.send(probe)
                self._unsent.pop(peer, None)
            except OSError as error:
                schedule.unsent(probe)
                self._unsent[peer] = str(error)
        if now >= self._show_at:
            self._show_at = now + SHOW_SECONDS
            self._show(schedule)
        due = schedule.next_at()
        wait = LONGEST_WAIT_SECONDS if due is None else max(0.0, due - time.monotonic())
        select.select([sockets], [], [], min(wait, LONGEST_WAIT_SECONDS))

    def _show(self, schedule: Schedule) -> None:
        if self._in_use is None:
            return
        fleet, peers, paths = self._in_use.fleet, self._in_use.peers, schedule.paths
        mtu = mtu_in_use(paths, peers, self._least_mtu)
        if mtu != self._mtu:
            self._mtu = mtu
            self._on_mtu(mtu)
        self._facts.update(paths=path_facts(paths), path_report=path_report(paths))
        link = Link(fleet.own, fleet.link_mtu, self._least_mtu)
        for topic, line in troubles(paths, peers, link).items():
            self._set_trouble(topic, line)
        refused = {name: why for name, why in self._unsent.items() if name in peers.in_use}
        self._set_trouble("paths_send", unsent(refused))

    def _set_trouble(self, topic: str, line: str | None) -> None:
        before = self._facts.current.troubles.get(topic)
        if line == before:
            return
        self._facts.set_trouble(topic, line)
        if line is not None:
            self._log.warning("paths to other servers", about=topic, detail=line)
        else:
            self._log.info("paths to other servers: over", about=topic)
        self._on_change()
