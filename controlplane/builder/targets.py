"""How many buckets each server is meant to have: shares, bounded by caps, in whole buckets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.request import Servers, Slots

Floats = NDArray[np.float64]
TINY = 1e-7
"""Of a bucket: what floating point leaves over is not a remainder."""
NOTHING = 1e-9
"""Of the largest share: a share below this is none. Keeps quotients finite."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Buckets meant for each server, its cap (0: not eligible), how many had to go beyond caps."""

    buckets: Slots
    caps: Floats
    unplaced: int


def find_targets(buckets: int, servers: Servers, cap_factor: float, held: Slots) -> Targets:
    """Divide ``buckets`` by share within the caps.

    Room that the shares leave is used by all before a cap is broken; then the bounded load gives
    way before anybody's connection limit does, and only then that: every bucket has a server.
    ``held`` is what each has now, and decides who gets the odd bucket (see ``whole``).
    """
    eligible = servers.eligible
    bound = np.inf
    if cap_factor > 0:
        bound = np.ceil(cap_factor * buckets / np.count_nonzero(eligible) - TINY)
    caps = np.where(eligible, np.minimum(servers.limits, bound), 0.0)
    equal = eligible.astype(np.float64)
    quota = np.zeros(eligible.size)
    for room in (caps, servers.limits, np.full(eligible.size, np.inf)):
        for weights in (servers.shares, equal):
            missing = buckets - quota.sum()
            if missing > TINY:
                quota += fill(missing, weights, np.maximum(room - quota, 0.0))
    targets = whole(buckets, quota, held)
    beyond = np.maximum(targets - caps, 0)[eligible].sum()
    return Targets(targets, caps, int(beyond))


def fill(amount: float, weights: Floats, room: Floats) -> Floats:
    """Pour ``amount`` out by ``weights``, nobody getting more than their ``room``.

    What one has no room for goes to the others, by weight. Returns less than ``amount`` in all if
    there is not room enough.
    """
    poured = np.zeros(weights.size)
    takers = np.flatnonzero((weights > NOTHING * weights.max()) & (room > 0))
    if takers.size == 0:
        return poured
    room, weights = room[takers], weights[takers] / weights[takers].max()
    if amount >= room.sum():
        poured[takers] = room
        return poured
    # Those who are full first come first. With k of them full, the others stand at one level.
    order = np.argsort(room / weights, kind="stable")
    full = np.concatenate(([0.0], np.cumsum(room[order])[:-1]))
    open_weight = np.cumsum(weights[order][::-1])[::-1]
    level = (amount - full) / open_weight
    first_open = np.argmax(level <= (room / weights)[order])
    poured[takers] = np.minimum(room, weights * level[first_open])
    return poured


def whole(total: int, quota: Floats, held: Slots) -> Slots:
    """Round ``quota`` to whole numbers that sum to ``total``, each within one of its quota.

    The odd ones go to the largest remainders, but first to those who hold them already: a share
    that changes by less than a bucket moves nothing. Ties go to the lower index.
    """
    targets: Slots = np.floor(quota + TINY).astype(np.int64)
    odd = total - int(targets.sum())
    if odd <= 0:
        return targets
    remainder = np.maximum(quota - targets, 0.0)
    holds = (held > targets) & (remainder > TINY)
    order = np.lexsort((-np.round(remainder, 7), ~holds))
    targets[order[:odd]] += 1
    return targets
