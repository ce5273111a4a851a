"""The plan of a change: what would move, what would break, and how sure that is. Pure.

Everything is about the connections and tables of now: those that begin later, and deaths and other
changes meanwhile, nobody foresees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controlplane.decide.plan.ahead import Ahead, gone, run_ahead
from controlplane.decide.plan.effect import full_seconds, with_states
from controlplane.decide.plan.known import Known, KnownPool, KnownServer
from controlplane.decide.plan.objects import (
    Kind,
    Knowledge,
    LostPlan,
    Plan,
    PoolPlan,
    ServerPlan,
    StagePlan,
)
from controlplane.decide.pool_step import ROUND_SECONDS
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import ServerState, Table
from controlplane.domain.table_facts import table_facts

FULL_LOAD = 1.0
"""A load of all of the capacity."""


@dataclass(frozen=True)
class Stage:
    """One step of a change: the server's state then, and the cluster documents that it takes."""

    what: str
    state: ServerState
    documents: int


DRAINED = Stage("drained", ServerState.DRAINING, 1)
BACK = Stage("back", ServerState.ACTIVE, 2)
STAGES: Mapping[Kind, tuple[Stage, ...]] = {
    Kind.DRAIN: (DRAINED,),
    Kind.UNDRAIN: (BACK,),
    Kind.DOWN: (Stage("gone", ServerState.DOWN, 1),),
    Kind.REBOOT: (
        DRAINED,
        Stage("away", ServerState.DOWN, 1),
        Stage("back", ServerState.ACTIVE, 3),
    ),
}


def make_plan(known: Known, kind: Kind, name: str) -> Plan:
    """Return the plan of a change of a server that is in ``known``."""
    server = known.servers[name]
    tables = {pool: found.table for pool, found in known.pools.items()}
    stages, fewest = [], dict(tables)
    for number, stage in enumerate(STAGES[kind]):
        pools = []
        for pool, found in sorted(known.pools.items()):
            if stage.state is ServerState.ACTIVE and pool not in server.pools:
                continue
            if not np.any(tables[pool].chains == server.index) and pool not in server.pools:
                continue
            ahead = _ahead(found, tables[pool], server, stage)
            pools.append(_pool_plan(known, pool, server, tables[pool], ahead, first=not number))
            tables[pool] = ahead.table
        stages.append(_stage_plan(known, server, stage, tuple(pools)))
        if not number:
            fewest = dict(tables)
    return Plan(
        kind,
        name,
        tuple(stages),
        tuple(_servers(known, fewest)),
        _knowledge(known),
        tuple(_notes(known, kind, server)),
    )


def _ahead(found: KnownPool, table: Table, server: KnownServer, stage: Stage) -> Ahead:
    request = with_states(found.request, {server.index: stage.state})
    if table is not found.table:  # what is known of connections is about the hops of the first
        request = replace(request, generation=table.generation + 1, occupancy=None)
    if stage.state is ServerState.ACTIVE:  # after its slow start
        full = found.full_shares.get(server.index, request.shares.get(server.index, 1.0))
        request = replace(request, shares={**request.shares, server.index: full})
    ahead = run_ahead(table, request, found.presence)
    if ahead.nobody and stage.state is ServerState.DOWN:
        lost = gone(table, server.index, found.presence)
        ahead = replace(ahead, lost=(lost,) if lost else ())
    return ahead


def _pool_plan(
    known: Known, pool: str, server: KnownServer, table: Table, ahead: Ahead, *, first: bool
) -> PoolPlan:
    found = known.pools[pool]
    names = {one.index: one.name for one in known.servers.values()}
    drains = bool(np.any(table.chains[:, 0] == server.index))
    anyway = run_ahead(table, found.request) if first else None
    forced = max(0, ahead.forced - (anyway.forced if anyway else 0))
    waits = forced or ahead.held_back
    chained = [one.connections for one in ahead.chained]
    buckets = sum(one.buckets for one in ahead.chained)
    own = None if None in chained else sum(c for c in chained if c is not None)
    total = sum(one.connections for one in found.presence.values())
    return PoolPlan(
        pool=pool,
        buckets=ahead.moved,
        anyway=anyway.moved if anyway else 0,
        forced=forced,
        full_seconds=full_seconds(table, found.request, server.index if drains else None)
        if waits
        else 0.0,
        held_back=ahead.held_back,
        unplaced=ahead.unplaced,
        chained_buckets=buckets,
        chained=None if own is None else round(own),
        chained_part=own / total if own is not None and total else buckets / table.buckets,
        lost=tuple(
            LostPlan(
                names.get(one.server, f"index {one.server}"),
                one.cause,
                one.hops,
                None if one.connections is None else max(1, round(one.connections)),
            )
            for one in ahead.lost
        ),
        nobody=ahead.nobody,
        tables=ahead.tables,
        has=_has(names, ahead.table),
    )


def _has(names: Mapping[int, str], table: Table) -> dict[str, int]:
    counts = np.bincount(table.chains[:, 0])
    return {names.get(int(i), f"index {i}"): int(counts[i]) for i in np.flatnonzero(counts) if i}


def _stage_plan(
    known: Known, server: KnownServer, stage: Stage, pools: tuple[PoolPlan, ...]
) -> StagePlan:
    """Return a stage with its lower bound in time: the rounds, a slow start, or full chains."""
    generations = stage.documents + max((pool.tables for pool in pools), default=0)
    bounds = {"rounds": generations * ROUND_SECONDS}
    if stage.state is ServerState.ACTIVE:
        bounds["slow start"] = known.slow_start_seconds
        bounds["drain time"] = max((p.full_seconds for p in pools if p.held_back), default=0.0)
    bound = max(bounds, key=lambda key: bounds[key])
    drained = stage.state is ServerState.DRAINING
    waits = server.connections if drained else 0
    return StagePlan(stage.what, pools, generations, bounds[bound], bound, waits)


def _servers(known: Known, then: Mapping[str, Table]) -> Iterator[ServerPlan]:
    """Yield the parts and loads of all servers that have buckets now, or when the fewest serve."""
    weights = {
        pool: sum(one.connections for one in found.presence.values())
        for pool, found in known.pools.items()
    }
    counts = {p: (_counts(pool.table), _counts(then[p])) for p, pool in known.pools.items()}
    for name, server in sorted(known.servers.items()):
        now, after = (
            {p: float(both[when][server.index]) for p, both in counts.items()} for when in (0, 1)
        )
        if not any((*now.values(), *after.values())):
            continue
        ratio = _ratio(now, after, weights)
        load = None if server.load is None or ratio is None else server.load * ratio
        yield ServerPlan(
            name,
            {pool: part for pool, part in now.items() if part or after[pool]},
            {pool: part for pool, part in after.items() if part or now[pool]},
            server.load,
            load,
            tuple(_over(server, load, ratio)),
        )


def _counts(table: Table) -> NDArray[np.float64]:
    """Return the part of the buckets that each DIP index is current for."""
    return np.bincount(table.chains[:, 0], minlength=MAX_SERVERS + 1) / table.buckets


def _ratio(
    now: Mapping[str, float], after: Mapping[str, float], weights: Mapping[str, int]
) -> float | None:
    """Return by how much a server's part grows, over its pools by their connections.

    ``None``: it has nothing now, so nothing follows from its load.
    """
    weighed = weights if any(weights.values()) else dict.fromkeys(now, 1)
    before = sum(part * weighed[pool] for pool, part in now.items())
    return sum(part * weighed[pool] for pool, part in after.items()) / before if before else None


def _over(server: KnownServer, load: float | None, ratio: float | None) -> Iterator[str]:
    if ratio is None or ratio <= 1:
        return
    if load is not None and load > FULL_LOAD:
        yield f"its capacity: load {load:.2f}"
    if server.limit and server.connections is not None:
        connections = server.connections * ratio
        if connections > server.limit:
            yield f"max_connections {server.limit:,}: about {connections:,.0f}"


def _knowledge(known: Known) -> Knowledge:
    """Return what is known of connections: of the servers that are in a chain."""
    chains = {pool: table_facts(found.table).named for pool, found in known.pools.items()}
    named = {
        name: [known.pools[pool] for pool, indices in chains.items() if server.index in indices]
        for name, server in known.servers.items()
    }
    assumed = [
        name
        for name, pools in named.items()
        if not all(known.servers[name].index in pool.presence for pool in pools)
    ]
    seen = [name for name, pools in named.items() if pools and name not in assumed]
    ages = [known.servers[name].dump_age_seconds for name in seen]
    oldest = None if None in ages else max((age for age in ages if age is not None), default=None)
    return Knowledge(len(seen), tuple(sorted(assumed)), oldest, known.decided_age_seconds)


def _notes(known: Known, kind: Kind, server: KnownServer) -> Iterator[str]:
    """Yield what the numbers do not show."""
    if kind is Kind.UNDRAIN and not server.alive:
        yield f"the agent of {server.name} does not report: it joins when it does (lbctl up there)"
    if kind in (Kind.DRAIN, Kind.REBOOT):
        for pool, found in sorted(known.pools.items()):
            if pool in server.pools:
                yield from _protection(pool, found)


def _protection(pool: str, found: KnownPool) -> Iterator[str]:
    """Yield for how long passed-on connections are safe: how long they last, nobody knows."""
    request = found.request
    if found.table.depth == 1:
        return
    limit = request.forget_after_seconds
    if limit is not None and request.forget_occupied:
        yield f"pool {pool}: connections that last over {limit:g} s more break (forget_after)"
    else:
        yield (
            f"pool {pool}: connections that last over {request.drain_time_seconds:g} s more may "
            "break in later moves (drain_time_seconds)"
        )
