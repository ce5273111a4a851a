"""What a drain would do, before it is requested: for the person who asks.

The controller judges every request itself (``controlplane.publish.guard``), by its own numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from controlplane.builder import BuildRequest
from controlplane.decide.drain_effect import DrainEffect, drain_effect
from controlplane.decide.guards import Capacity, breaks, capacity_of, lacks
from controlplane.decide.health import PoolHealth
from controlplane.decide.pool_step import members, pool_states
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import FleetView
from controlplane.documents.controller import decode_controller
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import CONTROLLER
from controlplane.domain.decisions import Decisions, PoolDecisions
from controlplane.domain.objects import SERVING, Cluster, Server, ServerState
from controlplane.operator.overview import decisions_of, health_of, listen, panics
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig, PoolConfig
from controlplane.store.contract import ControllerStore, StoreCorrupt


@dataclass(frozen=True)
class PoolPreview:
    """One pool: how many servers stay active, and what moves.

    ``reasons``: why guards refuse it. ``last``: no other server can take the buckets, so they stay.
    ``lacking``: the reason that does not end by itself; empty: it is not one.
    """

    pool: str
    buckets: int
    stay: int
    members: int
    needed: int
    forced: int
    reasons: tuple[str, ...] = ()
    last: bool = False
    lacking: str = ""


@dataclass(frozen=True)
class DrainPreview:
    """What a drain would do. ``connections``: as the server reported, ``None``: it did not.

    ``requested``: it is requested already. ``serving``: it may be given buckets now.
    """

    server: str
    serving: bool
    requested: bool
    connections: int | None = None
    pools: tuple[PoolPreview, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the guards do not allow it; empty: they do."""
        return tuple(reason for pool in self.pools for reason in pool.reasons)


@dataclass(frozen=True)
class _Seen:
    """What an operator's process sees of a running fleet."""

    config: ControlConfig
    published: Published
    cluster: Cluster
    fleet: FleetView
    decided: Decisions
    leaving: Collection[str]
    now: float
    """Fleet seconds."""


def preview_drain(
    store: ControllerStore, config: ControlConfig, name: str, listen_seconds: float
) -> DrainPreview:
    """Observe, then compute the next tables without this server. Raises ``StoreError``."""
    return preview_of(store, config, name, *listen(store, config, listen_seconds))


def preview_of(
    store: ControllerStore, config: ControlConfig, name: str, published: Published, fleet: FleetView
) -> DrainPreview:
    """Compute the next tables without this server from what was observed. Raises ``StoreError``."""
    seen = _seen(store, config, name, published, fleet)
    server = seen.cluster.server(name) if seen else None
    if seen is None or server is None:
        return DrainPreview(name, serving=False, requested=name in store.drain_requests())
    view, report = fleet.servers[name], fleet.reports.get(name)
    serving, configured = server.state in SERVING, config.server_named(name)
    previews = [
        _pool(pool, server, seen)
        for pool in config.pool
        if serving
        and pool.name in published.tables
        and (configured is None or configured.serves(pool.name))
    ]
    connections = report.connections if report and not view.silent else None
    return DrainPreview(name, serving, view.drain_requested, connections, tuple(previews))


def capacities(
    store: ControllerStore, config: ControlConfig, published: Published, fleet: FleetView
) -> dict[str, Capacity]:
    """Return who serves each pool, with the drains that are requested. Raises ``StoreError``."""
    seen = _seen(store, config, "", published, fleet)
    if seen is None:
        return {}
    pools = [pool for pool in config.pool if pool.name in published.tables]
    return {pool.name: _capacity(pool, seen, _health(pool, seen)) for pool in pools}


def _seen(
    store: ControllerStore, config: ControlConfig, name: str, published: Published, fleet: FleetView
) -> _Seen | None:
    """Return what is known for the drain of a server, ``None`` before the first document."""
    cluster, decided = published.cluster, decisions_of(store)
    if cluster is None:
        return None
    leaving = {
        other.name
        for other in cluster.servers
        if other.name != name
        and fleet.servers[other.name].drain_requested
        and other.name not in decided.held
    }
    now = _fleet_seconds(store, published)
    return _Seen(config, published, cluster, fleet, decided, leaving, now)


def _fleet_seconds(store: ControllerStore, published: Published) -> float:
    """Return the fleet time that a controller stored last; it is at most a little too low."""
    stored = 0.0
    with suppress(StoreCorrupt, DocumentError):
        version = store.latest(CONTROLLER)
        stored = decode_controller(version.data).fleet_seconds if version else 0.0
    return max([stored, *(facts.last_moved_at for facts in published.facts.values())])


def _pool(pool: PoolConfig, server: Server, seen: _Seen) -> PoolPreview:
    health = _health(pool, seen)
    capacity = _capacity(pool, seen, health)
    effect = _effect(pool, server, seen, health)
    reasons = (lacks(server.name, capacity), breaks(pool.name, effect))
    return PoolPreview(
        pool.name,
        effect.buckets,
        capacity.without(server.name),
        capacity.members,
        capacity.needed,
        effect.forced,
        tuple(reason for reason in reasons if reason),
        last=effect.nobody,
        lacking=reasons[0] or "",
    )


def _health(pool: PoolConfig, seen: _Seen) -> PoolHealth:
    found = health_of(pool.name, seen.cluster, seen.config, seen.fleet)
    panic = panics(pool.name, seen.cluster, seen.config, seen.fleet, seen.decided)
    return PoolHealth(found.unhealthy, panic)


def _capacity(pool: PoolConfig, seen: _Seen, health: PoolHealth) -> Capacity:
    views = seen.fleet.servers
    return capacity_of(seen.config, pool, seen.cluster, views, health, seen.leaving)


def _effect(pool: PoolConfig, server: Server, seen: _Seen, health: PoolHealth) -> DrainEffect:
    """Return the builder's answer, with the shares and caps that the controller published."""
    cluster, published = seen.cluster, seen.published
    table, shape = published.tables[pool.name], cluster.pool(pool.name)
    if shape is None:
        return DrainEffect()
    known = seen.decided.pools.get(pool.name, PoolDecisions())
    indices = {other.name: other.index for other in cluster.servers}
    request = BuildRequest(
        pool=shape,
        cluster_generation=table.cluster_generation,
        generation=table.generation + 1,
        shares={indices[n]: share for n, share in known.shares.items() if n in indices},
        states=_states(pool.name, seen, health),
        settled=True,
        now=seen.now,
        drain_time_seconds=pool.drain_time_seconds,
        caps={indices[n]: cap for n, cap in known.caps.items() if n in indices},
        cap_factor=pool.cap,
        forget_after_seconds=seen.config.forget_after_seconds(pool),
    )
    return drain_effect(table, request, server.index)


def _states(pool: str, seen: _Seen, health: PoolHealth) -> dict[int, ServerState]:
    """Return the states as the controller's builder has them once the document is settled."""
    unhealthy = frozenset() if health.panic else health.unhealthy
    not_yet = joins_when_ready(seen.cluster.servers, seen.fleet.servers)
    serving = members(seen.config, seen.cluster, pool, not_yet)
    everywhere = {server.index for server in seen.cluster.servers}
    return pool_states(seen.cluster, seen.published.facts[pool], serving, everywhere, unhealthy)
