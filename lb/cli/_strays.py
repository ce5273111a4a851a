"""How connections that broke or will are shown: strays, orphans, proved ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


def strays_text(strays: Iterable[Mapping[str, Any]], by: str = "cause") -> str:
    """Return counts by pool and by one key: ``web: 2 forced, 1 unknown; dns: 1 moved``."""
    pools: defaultdict[str, list[str]] = defaultdict(list)
    for one in strays:
        pools[one["pool"]].append(f"{one['count']} {one[by]}")
    return "; ".join(f"{pool}: {', '.join(parts)}" for pool, parts in pools.items())


def count_of(strays: Iterable[Mapping[str, Any]]) -> int:
    """Return how many there are."""
    return sum(one["count"] for one in strays)


def connections_text(count: int) -> str:
    """Return a number of connections in words."""
    return "1 connection" if count == 1 else f"{count} connections"
