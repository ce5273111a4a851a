"""Which buckets of a pool lead to this server, and how it left those that did. Pure.

Made from one table after the other, as the data plane takes them into use. `lb/agent/report/`
compares the server's connections with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import IN_USE, Pool, Server, Service, Table

Buckets = NDArray[np.bool_]
NEVER_AT = float("-inf")


class Left(IntEnum):
    """How this server left a bucket's chain."""

    NEVER = 0
    """It did not, since the agent's start: it is in the chain, or never was."""
    FORCED = 1
    """Pushed out of a full chain by a newcomer."""
    FORGOTTEN = 2
    """Dropped from a chain that was not full any more, or that became shorter."""
    REMOVED = 3
    """The controller took this server out of all chains: it is down, cut off, or has left."""


@dataclass(frozen=True, eq=False)
class PoolHere:
    """What a pool's tables mean for this server.

    ``leads``: for each bucket, whether this server is in its chain by the table in use.
    ``led_before``: the same by the table before. ``taken_at``: when the one in use was taken,
    monotonic seconds. ``full``: whether the bucket's chain has no free place in the table in use.
    ``left``: a ``Left`` for each bucket, uint8, and ``left_at``: when that was, in monotonic
    seconds. ``moved_at``: when the bucket's chain last changed, ``died_at``: when it last lost a
    server that was dead; ``NEVER_AT``: not since the agent's start. ``chains``: the table's.
    """

    pool: Pool
    key: bytes = field(repr=False)
    leads: Buckets
    led_before: Buckets
    taken_at: float
    full: Buckets
    left: NDArray[np.uint8]
    left_at: NDArray[np.float64]
    moved_at: NDArray[np.float64]
    died_at: NDArray[np.float64]
    chains: NDArray[np.uint16] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Steering:
    """By what this server's sockets are sorted into pools and buckets.

    ``pools`` are those with a table in use.
    """

    cluster_generation: int
    services: tuple[Service, ...]
    pools: Mapping[str, PoolHere]
    dip: IPv4Address | None = None


def pool_here(
    table: Table,
    pool: Pool,
    key: bytes,
    server: Server | None,
    now: float,
    before: PoolHere | None = None,
    dead: Collection[int] = (),
) -> PoolHere:
    """Return what a table taken into use at ``now`` (monotonic) means for this server.

    ``server``: as the cluster document has it, ``None`` if it does not. ``before``: what the
    pool's last table meant. ``dead``: indices of servers that are down.
    """
    index = 0 if server is None else server.index
    leads: Buckets = (table.chains == index).any(axis=1) & (index != 0)
    full: Buckets = (table.chains != 0).all(axis=1)
    if before is None:
        never = np.full(table.buckets, Left.NEVER, np.uint8)
        moved_at = np.full(table.buckets, NEVER_AT)
        none, no_time = np.zeros_like(leads), never.astype(np.float64)
        return PoolHere(
            pool, key, leads, none, now, full, never, no_time, moved_at, moved_at, table.chains
        )
    left, left_at = before.left.copy(), before.left_at.copy()
    left[leads] = Left.NEVER
    gone = before.leads & ~leads
    if server is None or server.state not in IN_USE:
        left[gone] = Left.REMOVED
    else:
        left[gone] = np.where(before.full & full, Left.FORCED, Left.FORGOTTEN)[gone]
    left_at[gone] = now
    moved_at, died_at = _changes(before, table.chains, now, dead)
    return PoolHere(
        *(pool, key, leads, before.leads, now, full, left, left_at),
        *(moved_at, died_at, table.chains),
    )


def _changes(
    before: PoolHere, chains: NDArray[np.uint16], now: float, dead: Collection[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when each bucket's chain last changed, and when it last lost a dead server."""
    old = before.chains
    if old.shape != chains.shape:  # the pool's depth has changed
        depth = max(old.shape[1], chains.shape[1])
        old, chains = (np.pad(c, ((0, 0), (0, depth - c.shape[1]))) for c in (old, chains))
    moved = (old != chains).any(axis=1)
    died = np.zeros(len(chains), np.bool_)
    at = np.flatnonzero(moved & np.isin(old, list(dead)).any(axis=1))
    for column in old[at].T:
        lost = np.isin(column, list(dead)) & ~(chains[at] == column[:, None]).any(axis=1)
        died[at] |= lost
    return np.where(moved, now, before.moved_at), np.where(died, now, before.died_at)
