"""The builder's input and output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.occupancy import Occupancy
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import SERVING, Pool, ServerState, Table

PerServer = NDArray[np.int64]
"""One number for each DIP index, 0 to MAX_SERVERS. Index 0 stands for no server."""


class NoServerLeft(BrigadeError):
    """No server of the pool may be given buckets; the table in use stays."""

    def __init__(self, pool: str) -> None:
        super().__init__(
            f"pool {pool}: no server left to serve, its table stays as it is; "
            "bring a server back or undrain one"
        )


class PoolChanged(BrigadeError):
    """The old table has another shape than the pool, or belongs to another pool."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(
            f"pool {pool.name}: its table does not have {pool.buckets} buckets and depth "
            f"{pool.depth}; "
            "both are fixed for a pool's life, so make a pool of another name"
        )


@dataclass(frozen=True)
class BuildRequest:
    """Everything that a table depends on, except the table before it.

    ``states`` has every known server of the pool; an index in a chain but not in ``states`` counts
    as ``down``. ``joining`` and ``active`` servers may be given buckets. ``shares`` are relative; a
    server without one gets the mean of the others. ``caps`` bounds a server's buckets by its
    connection limit, ``cap_factor`` bounds every server's to this multiple of the mean (0: no
    bound). ``settled``: every server that counts has the old table in use. ``now`` is in fleet
    seconds, as all times in tables (docs/adr/0012). ``forget_after_seconds`` ``None``: old hops are
    kept; ``forget_occupied``: those that may have connections go, too. ``occupancy`` ``None``:
    nothing is known, every hop counts as occupied. ``drop_now``: empty hops may leave in a table of
    their own; else only in one that changes something else.
    """

    pool: Pool
    cluster_generation: int
    generation: int
    shares: Mapping[int, float]
    states: Mapping[int, ServerState]
    settled: bool
    now: float
    drain_time_seconds: float
    caps: Mapping[int, int] = field(default_factory=dict)
    cap_factor: float = 0.0
    forget_after_seconds: float | None = None
    forget_occupied: bool = True
    occupancy: Occupancy | None = None
    drop_now: bool = True


@dataclass(frozen=True, eq=False)
class BuildResult:
    """The next table and what changed, in buckets.

    ``table`` is ``None`` when nothing changed. ``moved``: buckets with another current server than
    before. ``prepared``: a newcomer was put behind the current server. ``forced``: prepared moves
    that pushed out a hop within its drain time. ``forgotten``: hops that were dropped because they
    are older than that, or than the time to forget them. ``pending``: moves that later builds must
    complete (``prepared`` included). ``held_back``: moves that wait for a drain time to pass.
    ``unplaced``: buckets that exceed the caps. ``targets``: the buckets that each server should
    have, for every server that may be given any. ``coming``: of those, the ones that this plan
    moves to it or prepares; ``lacking``: the ones that no bucket can be found for, because chains
    are full. ``dropped``: hops that left because they have no connections. ``lost_connections``: of
    the hops that were pushed out, forced or not, about; ``None``: not known.
    """

    table: Table | None
    moved: int
    prepared: int
    forced: int
    forgotten: int
    pending: int
    held_back: int
    unplaced: int
    targets: dict[int, int]
    coming: dict[int, int] = field(default_factory=dict)
    lacking: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    lost_connections: float | None = None

    @property
    def only_drops(self) -> bool:
        """Whether nothing changed but that empty hops left."""
        return bool(self.dropped) and not (self.moved or self.prepared or self.forgotten)


@dataclass(frozen=True, eq=False)
class Servers:
    """The request's servers as arrays over DIP indices.

    ``known``: may be in chains (not down; true for 0, the empty slot). ``eligible``: may be given
    buckets. ``shares`` and ``limits`` (infinite for none) matter only for eligible servers.
    """

    known: NDArray[np.bool_]
    eligible: NDArray[np.bool_]
    shares: NDArray[np.float64]
    limits: NDArray[np.float64]

    @staticmethod
    def of(request: BuildRequest) -> Servers:
        """Return the request's mappings as arrays.

        Raises:
            NoServerLeft: no server is eligible.
            ValueError: a share is negative or not finite, an index out of range.

        """
        size = MAX_SERVERS + 1
        known = np.zeros(size, dtype=np.bool_)
        eligible = np.zeros(size, dtype=np.bool_)
        for index, state in request.states.items():
            if not 0 < index < size:
                raise ValueError(f"server index {index}")
            known[index] = state is not ServerState.DOWN
            eligible[index] = state in SERVING
        known[0] = True
        if not eligible.any():
            raise NoServerLeft(request.pool.name)
        limits = np.full(size, np.inf)
        for index, cap in request.caps.items():
            limits[index] = max(cap, 0)
        return Servers(known, eligible, _shares(request.shares, eligible), limits)


def _shares(given: Mapping[int, float], eligible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fill in the mean for servers without a share; without any share, all are equal."""
    shares = np.full(eligible.size, np.nan)
    for index, share in given.items():
        if not math.isfinite(share) or share < 0:
            raise ValueError(f"share {share} of server {index}")
        shares[index] = share
    shares[~eligible] = 0.0
    given_shares = shares[eligible & ~np.isnan(shares)]
    shares[np.isnan(shares)] = given_shares.mean() if given_shares.size else 1.0
    if not shares.any():
        shares[eligible] = 1.0
    return shares
