"""Hops that leave chains although no move needs their slot: empty ones, and old ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.chains import Chains, compact
from controlplane.builder.choose import Buckets
from controlplane.builder.occupancy import Hops
from controlplane.builder.request import BuildRequest


@dataclass(frozen=True, eq=False)
class Leaving:
    """The buckets that hops leave, and for each of them which do: ``hops`` has one row for each.

    ``empty``: how many of them because they have no connections, ``old``: because their time is
    over.
    """

    rows: Buckets
    hops: Hops
    empty: int
    old: int

    def apply(self, chains: Chains) -> None:
        """Take the hops out, in place."""
        chains[self.rows] = compact(np.where(self.hops, 0, chains[self.rows]))


def find_leaving(
    chains: Chains, request: BuildRequest, resting: Hops, age: NDArray[np.float64]
) -> Leaving:
    """Return which hops leave, of buckets that do not move now (``resting``).

    These are empty ones, and later hops of buckets whose last move is older than the time to
    forget. Of the latter, those that may have connections stay, unless ``forget_occupied``.
    """
    occupancy, limit = request.occupancy, request.forget_after_seconds
    later = (chains != 0) & resting[:, None]
    later[:, 0] = False
    nothing = np.zeros_like(later)
    empty = later & occupancy.may_leave if occupancy is not None else nothing
    old = later & ~empty & (age >= limit)[:, None] if limit is not None else nothing
    if limit is not None and not request.forget_occupied:
        old = old & occupancy.are_gone(chains, limit) if occupancy is not None else nothing
    rows = np.flatnonzero((empty | old).any(axis=1))
    counts = (int(np.count_nonzero(hops)) for hops in (empty, old))
    return Leaving(rows, (empty | old)[rows], *counts)
