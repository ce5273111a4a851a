"""The thread that probes the paths to the other servers."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import structlog

from controlplane.domain.objects import Cluster, ServerState
from lb.agent.facts import SharedFacts
from lb.agent.path.findings import mtu_in_use, path_facts, path_report, troubles, unsent
from lb.agent.path.packet import parse
from lb.agent.path.schedule import Fleet, Schedule
from lb.agent.path.sockets import ProbeSockets
from lb.agent.worker import Worker

LONGEST_WAIT_SECONDS = 0.125
RETRY_SECONDS = 2.0
SHOW_SECONDS = 0.25
"""How often facts are updated: as often as they are reported."""


class PathProber(Worker):
    """Probes each peer in turn; what it finds goes into the facts.

    ``on_mtu`` is called from this thread whenever the MTU that the paths carry changes, with
    ``None`` if it is the interface's.
    """

    def __init__(
        self,
        name: str,
        own: IPv4Address,
        facts: SharedFacts,
        on_mtu: Callable[[int | None], None],
    ) -> None:
        super().__init__("paths")
        self._name = name
        self._own = own
        self._facts = facts
        self._on_mtu = on_mtu
        self._log = structlog.get_logger()
        self._wanted: tuple[Fleet, int, frozenset[str]] | None = None
        self._in_use: tuple[Fleet, int, frozenset[str]] | None = None
        self._schedule: Schedule | None = None
        self._sockets: ProbeSockets | None = None
        self._mtu: int | None = None
        self._unsent: dict[str, str] = {}
        self._show_at = 0.0

    def follow(self, cluster: Cluster, link_mtu: int) -> None:
        """Probe the servers of this document. Those that are down get probes, but no TROUBLE."""
        others = [s for s in cluster.servers if s.name != self._name and s.dip != self._own]
        known = cluster.server(self._name) is not None
        peers = {server.name: server.dip for server in others} if known else {}
        counted = frozenset(s.name for s in others if s.state is not ServerState.DOWN)
        with self.requested:
            self._wanted = Fleet(self._own, peers, link_mtu), cluster.gue_port, counted
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

    def _open(self, wanted: tuple[Fleet, int, frozenset[str]]) -> ProbeSockets:
        gue_port = wanted[1]
        if self._sockets is not None and self._sockets.gue_port != gue_port:
            self._sockets.close()
            self._sockets = None
        if self._sockets is None:
            self._sockets = ProbeSockets(self._own, gue_port)
        return self._sockets

    def _take(self, wanted: tuple[Fleet, int, frozenset[str]]) -> Schedule:
        """Return the schedule for the peers that are wanted now."""
        fleet = wanted[0]
        if self._schedule is None:
            self._schedule = Schedule(fleet)
        elif wanted != self._in_use:
            self._schedule.follow(fleet)
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
        fleet, _, counted = self._in_use
        paths = schedule.paths
        self._facts.update(paths=path_facts(paths), path_report=path_report(paths))
        for topic, line in troubles(paths, counted, fleet.own, fleet.link_mtu).items():
            self._set_trouble(topic, line)
        self._set_trouble(
            "paths_send", unsent({n: self._unsent[n] for n in self._unsent if n in counted})
        )
        mtu = mtu_in_use(paths, counted)
        if mtu != self._mtu:
            self._mtu = mtu
            self._on_mtu(mtu)

    def _set_trouble(self, topic: str, line: str | None) -> None:
        before = self._facts.current.troubles.get(topic)
        if line == before:
            return
        self._facts.set_trouble(topic, line)
        if line is not None:
            self._log.warning("paths to other servers", about=topic, detail=line)
        else:
            self._log.info("paths to other servers: over", about=topic)
