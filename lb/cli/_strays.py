"""How strays are shown: connections that no table leads to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


def strays_text(strays: Iterable[Mapping[str, Any]]) -> str:
    """Return strays by pool and cause: ``web: 2 forced, 1 unknown; dns: 1 forgotten``."""
    pools: defaultdict[str, list[str]] = defaultdict(list)
    for one in strays:
        pools[one["pool"]].append(f"{one['count']} {one['cause']}")
    return "; ".join(f"{pool}: {', '.join(parts)}" for pool, parts in pools.items())


def count_of(strays: Iterable[Mapping[str, Any]]) -> int:
    """Return how many there are."""
    return sum(one["count"] for one in strays)


def connections_text(count: int) -> str:
    """Return a number of connections in words."""
    return "1 connection" if count == 1 else f"{count} connections"
