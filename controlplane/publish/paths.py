"""Judges the paths between servers, round by round, and logs what is lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from controlplane.decide.cut_off import CutOff, doubted, follow
from controlplane.decide.groups import Groups, find_groups, reported_losses
from controlplane.decide.views import FleetView
from controlplane.domain.objects import IN_USE, Cluster, ServerState
from controlplane.publish.condition_log import ConditionLog

NAMED = 8
"""Servers that a line of the log names."""
LOST = "reports that encapsulated packets to other servers are lost"
CUT_OFF = "cut off from the other servers: it withdraws its routes, then leaves the tables"
SPLIT = "servers do not reach each other, and no group of them has a majority: nobody leaves"
DOUBTED = "the paths to it cannot be tested: allow ICMP echo between servers"


class PathJudge:
    """Remembers who is cut off and since when. ``groups`` is what the last round found."""

    def __init__(self, conditions: ConditionLog) -> None:
        self.cut_off = CutOff()
        self.groups = Groups()
        self._conditions = conditions

    def judge(self, fleet: FleetView, now: float) -> FleetView:
        """Return the view of the fleet with ``cut_off`` set. ``now`` is monotonic."""
        if fleet.cluster is None:
            return fleet
        fresh = frozenset(name for name, view in fleet.servers.items() if view.alive)
        self.groups = judged(fleet, fresh, self.cut_off, now)
        doubts = doubted(fleet.reports, fresh)
        servers = fleet.cluster.servers
        self.cut_off = follow(self.cut_off, self.groups, servers, fresh, doubts, now)
        self._log(fleet, fleet.cluster, fresh, doubts)
        cut_off = self.cut_off.names
        if not cut_off:
            return fleet
        views = {n: replace(v, cut_off=n in cut_off) for n, v in fleet.servers.items()}
        return replace(fleet, servers=views)

    def _log(
        self, fleet: FleetView, cluster: Cluster, fresh: Collection[str], doubts: Collection[str]
    ) -> None:
        log, cut_off = self._conditions, self.cut_off.names
        claims = reported_losses(fleet.reports, fresh)
        down = {s.name for s in cluster.servers if s.state is ServerState.DOWN} - cut_off
        for server in cluster.servers:
            name = server.name
            log.set(LOST, name, listed(claims.get(name, frozenset()) - down))
            reason = listed(self.groups.losses.get(name, ())) or "waits until it is reached again"
            log.set(CUT_OFF, name, reason if name in cut_off else None, level="error")
            log.set(DOUBTED, name, name in doubts and server.state in IN_USE)
        split = listed(self.groups.losses) if self.groups.split else ""
        log.set(SPLIT, "cluster", split, level="error")


def judged(
    fleet: FleetView, fresh: Collection[str], before: CutOff | None = None, now: float = 0.0
) -> Groups:
    """Return which servers reach each other, by the reports of ``fresh`` servers.

    Without ``before`` a server that is down counts as one that wants to join.
    """
    servers = fleet.cluster.servers if fleet.cluster else ()
    counted = before.recent(now) if before else frozenset[str]()
    held = before.held.keys() if before else fresh
    in_use = {s.name: s.index for s in servers if s.state in IN_USE or s.name in counted}
    newcomers = {
        s.name
        for s in servers
        if s.name not in in_use and (s.state is ServerState.REGISTERED or s.name in held)
    }
    claims = reported_losses(fleet.reports, fresh)
    return find_groups(in_use, newcomers, claims, before.names if before else ())


def listed(names: Collection[str]) -> str:
    """Return the first of these names, and how many more there are; nothing if there are none."""
    more = len(names) - NAMED
    text = ", ".join(sorted(names)[:NAMED])
    return f"{text} and {more} more" if more > 0 else text
