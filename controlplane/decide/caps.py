"""``max_connections`` as a bound in buckets. Pure."""

from __future__ import annotations

from collections.abc import Mapping

SMOOTHING = 0.2
"""Weight of the newest count in the running mean: connections change faster than buckets."""

DEAD_BAND = 0.05
"""A cap that changes by less than this part of itself is kept."""


def smoothed(mean: float | None, newest: float) -> float:
    """Return the running mean after one more tick."""
    return newest if mean is None else mean + SMOOTHING * (newest - mean)


def connection_caps(limits: Mapping[int, int], connections: float, buckets: int) -> dict[int, int]:
    """Return, by DIP index, how many of ``buckets`` fit a server's limit of connections.

    ``connections``: of all servers of the pool together. Keyed hashing spreads flows evenly, so a
    bucket holds ``connections / buckets`` of them. A limit that all buckets together would not
    reach is left out. The lowest cap is one bucket: a limit does not drain a server.
    """
    if connections <= 0:
        return {}
    caps = {index: int(limit * buckets / connections) for index, limit in limits.items()}
    return {index: max(1, cap) for index, cap in caps.items() if cap < buckets}


def steady(before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    """Keep caps that changed little: each change moves buckets."""
    return {
        index: before[index]
        if index in before and abs(cap - before[index]) <= DEAD_BAND * before[index]
        else cap
        for index, cap in now.items()
    }
