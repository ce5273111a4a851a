"""How many buckets each server should have: shares, bounded by caps, in whole buckets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.request import PerServer, Servers

Floats = NDArray[np.float64]
TINY = 1e-7
"""Of a bucket: a smaller remainder is a rounding error."""
NOTHING = 1e-9
"""Of the largest share: a smaller share counts as 0. Keeps quotients finite."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Buckets of each server, its cap (0: not eligible), and how many buckets exceed caps."""

    buckets: PerServer
    caps: Floats
    unplaced: int


def find_targets(buckets: int, servers: Servers, cap_factor: float, held: PerServer) -> Targets:
    """Divide ``buckets`` by share within the caps.

    Capacity that the shares leave is used by all servers before a cap is exceeded. Then the bounded
    load is exceeded, and last the connection limits: every bucket has a server. ``held`` is what
    each server has now; it decides who gets the remaining single buckets (see ``whole``).
    """
    eligible = servers.eligible
    bound = np.inf
    if cap_factor > 0:
        bound = np.ceil(cap_factor * buckets / np.count_nonzero(eligible) - TINY)
    caps = np.where(eligible, np.minimum(servers.limits, bound), 0.0)
    equal = eligible.astype(np.float64)
    quota = np.zeros(eligible.size)
    for capacity in (caps, servers.limits, np.full(eligible.size, np.inf)):
        for weights in (servers.shares, equal):
            missing = buckets - quota.sum()
            if missing > TINY:
                quota += fill(missing, weights, np.maximum(capacity - quota, 0.0))
    targets = whole(buckets, quota, held)
    beyond = np.maximum(targets - caps, 0)[eligible].sum()
    return Targets(targets, caps, int(beyond))


def fill(amount: float, weights: Floats, capacity: Floats) -> Floats:
    """Divide ``amount`` by ``weights``; no server gets more than its ``capacity``.

    What exceeds a server's capacity goes to the others, by weight. The parts sum to less than
    ``amount`` if the capacities do.
    """
    parts = np.zeros(weights.size)
    takers = np.flatnonzero((weights > NOTHING * weights.max()) & (capacity > 0))
    if takers.size == 0:
        return parts
    capacity, weights = capacity[takers], weights[takers] / weights[takers].max()
    if amount >= capacity.sum():
        parts[takers] = capacity
        return parts
    # In the order in which they fill up. With k of them full, the others stand at one level.
    order = np.argsort(capacity / weights, kind="stable")
    full = np.concatenate(([0.0], np.cumsum(capacity[order])[:-1]))
    open_weight = np.cumsum(weights[order][::-1])[::-1]
    level = (amount - full) / open_weight
    first_open = np.argmax(level <= (capacity / weights)[order])
    parts[takers] = np.minimum(capacity, weights * level[first_open])
    return parts


def whole(total: int, quota: Floats, held: PerServer) -> PerServer:
    """Round ``quota`` to whole numbers that sum to ``total``, each within one of its quota.

    The remaining single buckets go to servers that hold them already, then to the largest
    remainders: a share that changes by less than a bucket moves nothing. Ties go to the lower
    index.
    """
    targets: PerServer = np.floor(quota + TINY).astype(np.int64)
    remaining = total - int(targets.sum())
    if remaining <= 0:
        return targets
    remainder = np.maximum(quota - targets, 0.0)
    holds = (held > targets) & (remainder > TINY)
    order = np.lexsort((-np.round(remainder, 7), ~holds))
    targets[order[:remaining]] += 1
    return targets
