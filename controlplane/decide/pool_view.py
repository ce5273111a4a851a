"""What a controller knows of one pool at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.domain.objects import ServerState


@dataclass(frozen=True)
class PoolView:
    """What shares and caps depend on, by DIP index.

    ``loads`` of 1.0 are all of the capacity; a load that is missing or ``None`` is unknown or too
    old. ``ramps``: how far a joining server's slow start is, 0 to 1. ``current``: buckets that each
    server is current for. ``limits``: ``max_connections``. ``connections``: open ones on each
    server. ``frozen``: an agent is silent or the pool is in panic, so nothing moves for load.
    """

    states: Mapping[int, ServerState]
    loads: Mapping[int, float | None] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
    current: Mapping[int, int] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)
    connections: Mapping[int, int] = field(default_factory=dict)
    frozen: bool = False

    def ramp(self, index: int) -> float:
        """Return the part of its full share that a server may have."""
        return min(max(self.ramps.get(index, 1.0), 0.0), 1.0)
