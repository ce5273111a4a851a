"""The next tables of a pool, without publishing them: the builder, run until nothing moves. Pure.

What is counted, is counted by comparing tables: which buckets change hands, which connections are
passed on then, which hops leave chains although they may have connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from controlplane.builder import BuildRequest, NoServerLeft, build
from controlplane.builder.choose import Buckets
from controlplane.builder.moves import NEVER
from controlplane.builder.occupancy import Hops
from controlplane.documents.presence import PoolPresence
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import ServerState, Table

MOST_BUILDS = 8
"""Prepare, rotate, and what a rotation makes possible; more would only find nothing to do."""

Presence = Mapping[int, PoolPresence]
"""DIP index -> what its last dump found in the pool; missing: not known."""


def connections_at(presence: Presence, index: int, rows: Buckets) -> float | None:
    """Return about how many connections a server has in these buckets; ``None``: not known.

    A bucket that has any counts with the server's mean over such buckets.
    """
    found = presence.get(index)
    if found is None:
        return None
    mean = found.connections / max(1, int(np.count_nonzero(found.occupied)))
    return mean * int(np.count_nonzero(found.occupied[rows]))


class Cause(StrEnum):
    """Why connections would be lost. The value is what people read."""

    FORCED = "forced out"
    """Their chain is full of hops within the drain time."""
    FORGOTTEN = "forgotten"
    """The drain time, or the time to forget, is over: their slot is used again, or freed."""
    GONE = "server gone"
    UNCHAINED = "not chained"
    """The pool's depth is 1: a bucket that moves has no later hop."""


@dataclass(frozen=True)
class Lost:
    """Hops of a server that leave chains. ``connections``: about, ``None``: not known."""

    server: int
    cause: Cause
    hops: int
    connections: float | None


@dataclass(frozen=True)
class Chained:
    """Buckets that a server gives up and stays in. ``connections``: about, ``None``: unknown."""

    server: int
    buckets: int
    connections: float | None


@dataclass(frozen=True, eq=False)
class Ahead:
    """The table that a pool would end with, and what changes on the way to it.

    ``moved``: buckets with another current server at the end. ``forced``: hops that are pushed out
    within their drain time. ``held_back``: moves that wait for a drain time to pass. ``unplaced``:
    buckets that exceed the caps. ``tables``: how many are published. ``nobody``: no server may be
    given buckets, so the table stays. ``complete``: no further table would change anything.
    """

    table: Table
    moved: int = 0
    chained: tuple[Chained, ...] = ()
    lost: tuple[Lost, ...] = ()
    forced: int = 0
    held_back: int = 0
    unplaced: int = 0
    tables: int = 0
    nobody: bool = False
    complete: bool = True


@dataclass
class _Losses:
    """Hops that have left chains so far, by server and cause."""

    presence: Presence
    counts: dict[tuple[int, Cause], int] = field(default_factory=dict)
    sums: dict[tuple[int, Cause], float] = field(default_factory=dict)

    def add(self, rows: Buckets, servers: NDArray[np.uint16], cause: Cause) -> None:
        """Count one hop for each row."""
        for index in np.unique(servers):
            key, own = (int(index), cause), rows[servers == index]
            self.counts[key] = self.counts.get(key, 0) + own.size
            known = connections_at(self.presence, key[0], own)
            if known is not None:
                self.sums[key] = self.sums.get(key, 0.0) + known

    def found(self) -> tuple[Lost, ...]:
        """Return them: those whose servers surely have no connection there are no loss."""
        lost = (Lost(*key, hops, self.sums.get(key)) for key, hops in sorted(self.counts.items()))
        return tuple(one for one in lost if one.connections != 0)


def run_ahead(table: Table, request: BuildRequest, presence: Presence | None = None) -> Ahead:
    """Return what the pool's next tables would be, with all acknowledged at once.

    ``request`` is that of the next table. No time passes between them: hops that wait for their
    drain time, wait.
    """
    presence = presence or {}
    losses, last, request = _Losses(presence), table, replace(request, settled=True)
    forced = held_back = unplaced = tables = 0
    complete = False
    for _ in range(MOST_BUILDS):
        try:
            result = build(last, request)
        except NoServerLeft:
            return Ahead(table, nobody=True)
        held_back, unplaced = result.held_back, result.unplaced
        if result.table is None:
            complete = True
            break
        forced, tables = forced + result.forced, tables + 1
        _count(last, result.table, request, losses)
        last = result.table
        # What is known of connections is about the hops of the first table.
        request = replace(request, generation=request.generation + 1, occupancy=None)
    return Ahead(
        last,
        int(np.count_nonzero(table.chains[:, 0] != last.chains[:, 0])),
        tuple(_chained(table, last, presence)),
        losses.found(),
        forced,
        held_back,
        unplaced,
        tables,
        complete=complete,
    )


def _chained(first: Table, last: Table, presence: Presence) -> list[Chained]:
    """Return the buckets that changed hands and whose server before is still in the chain."""
    before = first.chains[:, 0]
    kept = (last.chains[:, 1:] == before[:, None]).any(axis=1) & (before != 0)
    moved, found = np.flatnonzero(kept & (before != last.chains[:, 0])), []
    givers = before[moved]
    for index in np.unique(givers):
        rows = moved[givers == index]
        found.append(Chained(int(index), rows.size, connections_at(presence, int(index), rows)))
    return found


def _count(old: Table, new: Table, request: BuildRequest, losses: _Losses) -> None:
    """Count the hops that one table removes, but those that are proved to be empty."""
    rows = np.flatnonzero((old.chains != new.chains).any(axis=1))
    before, after = old.chains[rows], new.chains[rows]
    removed = before != 0
    for position in range(after.shape[1]):
        removed &= before != after[:, position, None]
    removed &= ~_empty(request, rows, before)
    dead = removed & _down(request)[before]
    forced = removed & ~dead & _protected(old, request, rows)
    rest = removed & ~dead & ~forced
    unchained = rest & (old.depth == 1)
    causes = {Cause.GONE: dead, Cause.FORCED: forced, Cause.UNCHAINED: unchained}
    for cause, hops in {**causes, Cause.FORGOTTEN: rest & ~unchained}.items():
        buckets, positions = np.nonzero(hops)
        losses.add(rows[buckets], before[buckets, positions], cause)


def gone(table: Table, index: int, presence: Presence) -> Lost | None:
    """Return what a server has that goes and whose table stays, ``None`` for nothing."""
    rows = np.flatnonzero((table.chains == index).any(axis=1))
    there = connections_at(presence, index, rows)
    return Lost(index, Cause.GONE, rows.size, there) if rows.size and there != 0 else None


def _down(request: BuildRequest) -> NDArray[np.bool_]:
    """Return which DIP indices leave all chains; not 0, the empty slot."""
    down = np.ones(MAX_SERVERS + 1, dtype=np.bool_)
    down[0] = False
    for index, state in request.states.items():
        down[index] = state is ServerState.DOWN
    return down


def _empty(request: BuildRequest, rows: Buckets, before: NDArray[np.uint16]) -> Hops:
    """Return which hops of these rows are proved to be empty."""
    if request.occupancy is None:
        return np.zeros(before.shape, dtype=np.bool_)
    return request.occupancy.may_leave[rows]


def _protected(table: Table, request: BuildRequest, rows: Buckets) -> Hops:
    """Return which hops of these rows leave within their drain time, because a chain is full.

    Those whose time to forget is over leave although there is space.
    """
    moved_at = table.moved_at[rows]
    age = np.maximum(request.now - moved_at.astype(np.float64), 0.0)
    recent = (age < request.drain_time_seconds) & (moved_at != NEVER)
    hops = np.zeros((rows.size, table.depth), dtype=np.bool_)
    hops[:, 1:] = recent[:, None]
    limit, occupancy = request.forget_after_seconds, request.occupancy
    if limit is None:
        return hops
    over = np.broadcast_to((age >= limit)[:, None], hops.shape)
    if request.forget_occupied:
        return hops & ~over
    if occupancy is None:
        return hops
    # The builder takes nothing as known of a bucket that has just lost a dead server.
    touched = np.flatnonzero(_down(request)[table.chains].any(axis=1))
    gone = occupancy.without(touched).are_gone(table.chains, limit)[rows]
    return hops & ~(over & gone)
