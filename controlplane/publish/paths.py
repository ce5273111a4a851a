"""Judges the paths between servers, round by round, and logs what is lost."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from controlplane.decide.cut_off import BACK_SECONDS, CutOff, doubted, follow
from controlplane.decide.groups import Groups, find_groups, reported_losses
from controlplane.decide.views import FleetView
from controlplane.domain.objects import IN_USE, Cluster, ServerState
from controlplane.publish.condition_log import ConditionLog

NAMED = 8
"""Servers that a line of the log names."""
LOST = "reports that encapsulated packets to other servers are lost"
CUT_OFF = "cut off from the other servers"
NOT_REACHED = "it waits until its agent reports and others reach it"
ROUNDED_SECONDS = 5
"""To how many seconds the time that is left is rounded up: it is stored when it changes."""
SPLIT = "servers do not reach each other, and no group of them has a majority: nobody leaves"
DOUBTED = "the paths to it cannot be tested: allow ICMP echo between servers"


class PathJudge:
    """Remembers who is cut off and since when. ``groups`` is what the last round found."""

    def __init__(self, conditions: ConditionLog) -> None:
        self.cut_off = CutOff()
        self.groups = Groups()
        self._conditions = conditions
        self._logged: dict[str, tuple[bool, str]] = {}

    def judge(self, fleet: FleetView, now: float) -> FleetView:
        """Return the view of the fleet with ``cut_off`` set. ``now`` is monotonic."""
        if fleet.cluster is None:
            return fleet
        fresh = frozenset(name for name, view in fleet.servers.items() if view.alive)
        self.groups = judged(fleet, fresh, self.cut_off, now)
        doubts = doubted(fleet.reports, fresh)
        servers = fleet.cluster.servers
        self.cut_off = follow(self.cut_off, self.groups, servers, fresh, doubts, now)
        self._log(fleet, fleet.cluster, fresh, doubts, now)
        return self.marked(fleet, now)

    def marked(self, fleet: FleetView, now: float) -> FleetView:
        """Return the view of the fleet with what the last round found. ``now`` is monotonic."""
        views = {
            name: replace(fleet.servers[name], cut_off=True, cut_off_reason=reason)
            for name, reason in self.reasons(now).items()
            if name in fleet.servers
        }
        return replace(fleet, servers={**fleet.servers, **views}) if views else fleet

    def reasons(self, now: float) -> dict[str, str]:
        """Return why each server that is cut off may not join now. ``now`` is monotonic."""
        return {name: self._reason(name, now) for name in self.cut_off.names}

    def _reason(self, name: str, now: float) -> str:
        left = self.cut_off.back_in(name, now)
        if left is not None:
            rounded = ROUNDED_SECONDS * max(1, math.ceil(left / ROUNDED_SECONDS))
            return f"the others reach it again: it may join in at most {rounded} s"
        losing = self.groups.losses.get(name, ())
        do = "does" if len(losing) == 1 else "do"
        return f"{listed(losing)} {do} not reach it" if losing else NOT_REACHED

    def _log_cut_off(self, name: str, now: float) -> None:
        """Log once that a server is cut off, is reached again, and that it may join.

        Who loses it is logged as it was first: it is another set in each round, because reports
        arrive one after the other.
        """
        if name not in self.cut_off.names:
            self._logged.pop(name, None)
            self._conditions.set(CUT_OFF, name, None)
            return
        reached = self.cut_off.back_in(name, now) is not None
        if name not in self._logged or self._logged[name][0] != reached:
            wait = f"{BACK_SECONDS:.0f} s"
            text = (
                f"the others reach it again: it may join if that lasts {wait}"
                if reached
                else f"{self._reason(name, now)}: it withdraws its routes, then leaves the tables, "
                f"and may join when they have reached it for {wait}"
            )
            self._logged[name] = reached, text
        level = "info" if reached else "error"
        self._conditions.set(CUT_OFF, name, self._logged[name][1], level=level)

    def _log(
        self,
        fleet: FleetView,
        cluster: Cluster,
        fresh: Collection[str],
        doubts: Collection[str],
        now: float,
    ) -> None:
        log, cut_off = self._conditions, self.cut_off.names
        claims = reported_losses(fleet.reports, fresh)
        down = {s.name for s in cluster.servers if s.state is ServerState.DOWN} - cut_off
        for server in cluster.servers:
            name = server.name
            log.set(LOST, name, listed(claims.get(name, frozenset()) - down))
            self._log_cut_off(name, now)
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
