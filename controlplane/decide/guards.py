"""Guards: which drains would leave a pool without enough servers, or break connections. Pure.

The controller holds such a drain back until the reason is gone, unless its request has ``force``.
So two operators who drain at the same moment, or one who looked at old numbers, cannot together
take away what each of them would have left. Deaths and failing checks are facts, no guard can hold
them back; a server that leaves the settings is not held back either.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.decide.health import PoolHealth
from controlplane.decide.plan.effect import DrainEffect
from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import PAST_REGISTERED, Cluster, ServerState
from controlplane.settings.models import ControlConfig, PoolConfig

ROUNDING = 1e-9
NOT_JUDGED = "the controller has just started and has not looked at it yet"


@dataclass(frozen=True)
class Capacity:
    """Who serves a pool. ``active``: with their full share; ``absent``: why the others are not."""

    pool: str
    min_active: float
    active: frozenset[str] = frozenset()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def members(self) -> int:
        """How many servers this pool has when all is well."""
        return len(self.active) + len(self.absent)

    @property
    def needed(self) -> int:
        """How many must stay active; never less than one."""
        return max(1, math.ceil(self.min_active * self.members - ROUNDING))

    def without(self, server: str) -> int:
        """Return how many stay active without this server."""
        return len(self.active - {server})


def capacity_of(
    config: ControlConfig,
    pool: PoolConfig,
    cluster: Cluster,
    views: Mapping[str, ServerView],
    health: PoolHealth,
    leaving: Collection[str],
) -> Capacity:
    """Return who serves a pool. ``leaving``: servers whose drain is decided but not published.

    A server that never reported is not a part of the pool yet. A silent one is not counted on.
    """
    unhealthy = frozenset() if health.panic else health.unhealthy
    active, absent = set(), {}
    for server in cluster.servers:
        configured, view = config.server_named(server.name), views[server.name]
        if configured is None or not configured.serves(pool.name):
            continue
        if server.state not in PAST_REGISTERED and not view.known:
            continue
        if server.state is not ServerState.ACTIVE:
            absent[server.name] = server.state.value
        elif server.name in leaving:
            absent[server.name] = ServerState.DRAINING.value
        elif server.name in unhealthy:
            absent[server.name] = "unhealthy"
        elif view.silent:
            absent[server.name] = "silent"
        else:
            active.add(server.name)
    return Capacity(pool.name, pool.min_active, frozenset(active), absent)


def lacks(server: str, capacity: Capacity) -> str | None:
    """Return what a pool would lack without this server, ``None`` if it would have enough.

    A server that serves nobody there takes nothing away.
    """
    if capacity.absent.get(server) in ("unhealthy", "down", "registered", "draining"):
        return None
    stay = capacity.without(server)
    if stay >= capacity.needed:
        return None
    others = ", ".join(f"{name} is {why}" for name, why in sorted(capacity.absent.items()))
    return (
        f"pool {capacity.pool} would have {stay} of {capacity.members} servers active, and needs "
        f"{capacity.needed} (min_active {capacity.min_active:g})"
        + (f"; {others}" if others else "")
    )


def breaks(pool: str, effect: DrainEffect) -> str | None:
    """Return which connections a drain would break, ``None`` for none."""
    if not effect.forced:
        return None
    return (
        f"pool {pool} would lose {effect.forced:,} later hops that may hold connections: its "
        f"chains are full for {math.ceil(effect.full_seconds)} s more"
    )
