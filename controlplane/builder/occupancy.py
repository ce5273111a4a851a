"""What is known of the connections behind a table's hops."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Hops = NDArray[np.bool_]
"""One value for each hop of a table: of the shape of its chains."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Which hops of a table have connections, as far as servers have reported it.

    ``known``: the hop's server has reported it. ``occupied``: it may have connections; true for all
    that is not known. ``may_leave``: later hops without a connection, which get none while the
    table is in use (``controlplane.decide.empty_hops``). By DIP index: ``per_bucket``, mean
    connections of a server in a bucket where it has any; ``silent_seconds``, for how long a server
    has not reported its connections at all.
    """

    known: Hops
    occupied: Hops
    may_leave: Hops
    per_bucket: NDArray[np.float64]
    silent_seconds: NDArray[np.float64]

    def without(self, rows: NDArray[np.intp]) -> Occupancy:
        """Return the same with nothing known of these buckets: their chains have changed."""
        known, occupied, may_leave = self.known.copy(), self.occupied.copy(), self.may_leave.copy()
        known[rows], occupied[rows], may_leave[rows] = False, True, False
        return replace(self, known=known, occupied=occupied, may_leave=may_leave)

    def are_gone(self, chains: NDArray[np.uint16], seconds: float) -> Hops:
        """Return which hops probably have no connection any more, of moves so many seconds old.

        That is: none was reported. What is not known for the moment may have some: the servers of
        those hops must have been silent for so long, too.
        """
        return np.where(self.known, ~self.occupied, self.silent_seconds[chains] >= seconds)

    def connections_at(
        self, rows: NDArray[np.intp], chains: NDArray[np.uint16], position: int
    ) -> float | None:
        """Return about how many connections these hops have; ``None``: not known of all."""
        if not self.known[rows, position].all():
            return None
        occupied = rows[self.occupied[rows, position]]
        return float(self.per_bucket[chains[occupied, position]].sum())
