"""Why servers do not have the buckets of an equal part: every bucket has one reason. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from controlplane.builder import BuildRequest, BuildResult
from controlplane.decide.health import Failing, PoolHealth
from controlplane.decide.pool_step import PoolDecision, Step
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import FleetView
from controlplane.domain.decisions import Missing, Reason, ServerBuckets
from controlplane.domain.objects import SERVING, Cluster, Server, ServerState, Table

ALL_OF_IT = 1 << 62
"""A reason that explains whatever else does not."""
NOT_READY = "not ready: lbctl status there shows why"
KEEPS = "no other server of the pool can take its buckets, so it keeps them until one can"
SHOWN = 8
"""Names in a list, at most."""


@dataclass(frozen=True)
class FullChains:
    """Buckets whose chain is full of hops within their drain time, by their last hop.

    ``occupied``: its server has reported connections there, ``connections``: about so many.
    ``empty``: it has reported none. The others' servers have reported nothing of them.
    """

    buckets: int
    occupied: int = 0
    connections: int = 0
    empty: int = 0

    def __str__(self) -> str:
        unknown = self.buckets - self.occupied - self.empty
        parts = [
            f"{self.occupied:,} have about {self.connections:,} connections",
            f"{self.empty:,} have none and leave soon",
            f"{unknown:,} are unknown",
        ]
        counts = (self.occupied, self.empty, unknown)
        return ", ".join(part for part, count in zip(parts, counts, strict=True) if count)


def full_chains(table: Table, request: BuildRequest) -> FullChains | None:
    """Return what is known of the last hops of full chains; ``None``: no chain is full."""
    age = request.now - table.moved_at.astype(np.float64)
    recent = (age < request.drain_time_seconds) & (table.moved_at != 0)
    rows = np.flatnonzero(recent & (table.chains[:, -1] != 0))
    if table.depth == 1 or not rows.size:
        return None
    known = request.occupancy
    if known is None:
        return FullChains(rows.size)
    seen = rows[known.known[rows, -1]]
    occupied = seen[known.occupied[seen, -1]]
    connections = float(known.per_bucket[table.chains[occupied, -1]].sum())
    return FullChains(rows.size, occupied.size, round(connections), seen.size - occupied.size)


@dataclass(frozen=True)
class PoolFacts:
    """What one round knew of a pool. By DIP index, if not by name.

    ``states``: as the builder had them. ``full``: shares without slow start, ``shares``: with it.
    ``plan``: the builder's plan for the newest table, ``None``: it could not make one. ``members``:
    names of servers that the settings have in this pool. ``cluster_settlement``: of the newest
    cluster document.
    """

    pool: str
    buckets: int
    cluster: Cluster
    fleet: FleetView
    members: Collection[str]
    states: Mapping[int, ServerState]
    current: Mapping[int, int]
    full: Mapping[int, float]
    shares: Mapping[int, float]
    health: PoolHealth
    failing: Failing
    decision: PoolDecision
    settlement: Settlement | None
    cluster_settlement: Settlement | None
    plan: BuildResult | None = None
    silent: Collection[str] = field(default_factory=frozenset)
    full_chains: FullChains | None = None


def explain(facts: PoolFacts) -> dict[str, ServerBuckets]:
    """Return, for each server of the pool, its buckets and why it does not have an equal part."""
    eligible = [index for index, state in facts.states.items() if state in SERVING]
    found = {}
    for server in facts.cluster.servers:
        if server.name not in facts.members and not facts.current.get(server.index):
            continue
        may = server.index in eligible
        part = facts.buckets // max(1, len(eligible) + (not may))
        buckets = facts.current.get(server.index, 0)
        reasons = _eligible(facts, server, eligible, part) if may else [_why_not(facts, server)]
        if buckets and not eligible:
            found[server.name] = ServerBuckets(buckets, buckets, keeps=_keeps(reasons[0].detail))
            continue
        found[server.name] = ServerBuckets(buckets, part, _fit(reasons, part - buckets))
    return found


def _keeps(why_not: str) -> str:
    """Return why a server keeps its buckets when none of the pool may be given any."""
    return f"{KEEPS}; {why_not}"


def _fit(reasons: Iterable[Missing], missing: int) -> tuple[Missing, ...]:
    """Cut the reasons to what is missing, in their order, and add what they do not explain."""
    fitted = []
    for reason in [*reasons, Missing(Reason.OTHER, ALL_OF_IT)]:
        buckets = min(reason.buckets, missing)
        if buckets > 0:
            fitted.append(Missing(reason.reason, buckets, reason.detail))
            missing -= buckets
    return tuple(fitted)


def _eligible(
    facts: PoolFacts, server: Server, eligible: Collection[int], part: int
) -> list[Missing]:
    """Return why a server that may be given buckets lacks some, in the order of the causes."""
    index, plan = server.index, facts.plan
    by_weight = _quota(facts, facts.full, index, eligible)
    by_share = _quota(facts, facts.shares, index, eligible)
    target = plan.targets.get(index, 0) if plan else round(by_share)
    ramp = by_share / by_weight if by_weight else 1.0
    capped = int(by_share - target) if by_share - target > 1 else 0  # less is rounding
    reasons = [
        Missing(Reason.WEIGHT, round(part - by_weight), "its load was above the mean"),
        Missing(Reason.SLOW_START, round(by_weight - by_share), f"about {ramp:.0%} of its share"),
        Missing(Reason.CAP, capped, "cap or max_connections bounds its buckets"),
    ]
    if plan is None:
        return reasons
    full = Missing(
        Reason.CHAIN_FULL,
        plan.lacking.get(index, 0),
        "hops within their drain time must go first; this ends by itself"
        + (
            f" (of {facts.full_chains.buckets:,}: {facts.full_chains})" if facts.full_chains else ""
        ),
    )
    return [*reasons, full, _moving(facts, plan.coming.get(index, 0))]


def _quota(
    facts: PoolFacts, shares: Mapping[int, float], index: int, eligible: Collection[int]
) -> float:
    given = [shares[i] for i in eligible if i in shares]
    mean = sum(given) / len(given) if given else 1.0
    total = sum(shares.get(i, mean) for i in eligible)
    return facts.buckets * shares.get(index, mean) / total if total > 0 else 0.0


def _moving(facts: PoolFacts, buckets: int) -> Missing:
    """Return why buckets that the plan gives to a server are not there yet."""
    if facts.settlement and not facts.settlement.settled and facts.decision.step is not Step.BUILD:
        return Missing(Reason.SETTLING, buckets, _waiting(facts.settlement))
    if facts.silent and facts.decision.step is not Step.BUILD:
        return Missing(Reason.SILENT, buckets, f"moves for load wait for {_list(facts.silent)}")
    return Missing(Reason.MOVING, buckets, "the next tables move them")


def _why_not(facts: PoolFacts, server: Server) -> Missing:
    """Return why a server may not be given any bucket."""
    view = facts.fleet.servers[server.name]
    if server.state is ServerState.DOWN:
        why = _why_down(view)
        return Missing(Reason.NOT_IN_USE, ALL_OF_IT, f"down: {why}")
    if server.state is ServerState.REGISTERED:
        return _why_registered(facts, server)
    if server.state is ServerState.DRAINING:
        return Missing(Reason.DRAINING, ALL_OF_IT, _why_draining(facts, server))
    if server.name not in facts.members:
        return Missing(Reason.NOT_IN_USE, ALL_OF_IT, "the settings do not have it in this pool")
    if server.name in joins_when_ready([server], facts.fleet.servers):
        return Missing(Reason.NOT_IN_USE, ALL_OF_IT, f"joining, but {NOT_READY}")
    if server.name in facts.health.unhealthy and not facts.health.panic:
        return Missing(Reason.HEALTH, ALL_OF_IT, _failing(facts, server.name))
    found = facts.cluster_settlement
    waiting = _waiting(found) if found else "the cluster document is not settled"
    return Missing(Reason.SETTLING, ALL_OF_IT, waiting)


def _why_down(view: ServerView) -> str:
    if view.cut_off:
        return view.cut_off_reason
    if view.stopped:
        return "its agent reported that it stopped"
    return "it has just begun to report again" if view.alive else "it does not answer"


def _why_registered(facts: PoolFacts, server: Server) -> Missing:
    view, found = facts.fleet.servers[server.name], facts.cluster_settlement
    if view.drain_requested:
        text = f"it does not join while {_why_draining(facts, server)}"
        return Missing(Reason.DRAINING, ALL_OF_IT, text)
    if not view.alive:
        text = "its agent stopped" if view.stopped else "its agent does not report"
        return Missing(Reason.NOT_IN_USE, ALL_OF_IT, f"registered: {text}: lbctl up there")
    if found and not found.settled:
        return Missing(Reason.SETTLING, ALL_OF_IT, _waiting(found))
    return Missing(Reason.SETTLING, ALL_OF_IT, "it joins with the next cluster document")


def _why_draining(facts: PoolFacts, server: Server) -> str:
    if not facts.fleet.servers[server.name].configured:
        return "it is not in the settings any more"
    request = facts.fleet.drain_requests.get(server.name)
    who = f" by {request.by}" if request and request.by else ""
    why = f": {request.reason}" if request and request.reason else ""
    return f"its drain is requested{who}{why}"


def _failing(facts: PoolFacts, name: str) -> str:
    services = {s.name for s in facts.cluster.services if s.pool == facts.pool}
    report = facts.fleet.reports.get(name)
    texts = []
    for server, service in sorted(facts.failing):
        if server == name and service in services:
            health = report.checks.get(service) if report else None
            texts.append(f"{service}: {health.reason}" if health and health.reason else service)
    return f"checks fail: {_list(texts)}" if texts else f"it is {NOT_READY}"


def _waiting(found: Settlement) -> str:
    what = f"{found.kind} generation {found.generation}"
    return f"{what} waits for {_list(found.waiting_for)}" if found.waiting_for else what


def _list(texts: Iterable[str]) -> str:
    ordered = sorted(texts)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more
