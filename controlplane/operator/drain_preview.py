"""What a change of a server would do, before it is requested: its plan, and the guards' verdict.

The controller judges every request itself (``controlplane.publish.guard``), by its own numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.decide.guards import Capacity, breaks, capacity_of, lacks
from controlplane.decide.plan.effect import DrainEffect
from controlplane.decide.plan.objects import Kind, Plan, PoolPlan
from controlplane.decide.plan.plan import make_plan
from controlplane.decide.views import FleetView
from controlplane.domain.objects import SERVING, Server
from controlplane.operator.knowledge import Seen, knowledge, see
from controlplane.operator.overview import listen
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig, PoolConfig
from controlplane.store.contract import ControllerStore


@dataclass(frozen=True)
class PoolPreview:
    """One pool: how many servers stay active, and what moves.

    ``buckets``: that the server gives up. ``reasons``: why guards refuse it. ``last``: no other
    server can take the buckets, so they stay. ``lacking``: the reason that does not end by itself;
    empty: it is not one.
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

    ``requested``: it is requested already. ``serving``: it may be given buckets now. ``plan``: all
    that is foreseen; ``None``: there is no server to plan for yet.
    """

    server: str
    serving: bool
    requested: bool
    connections: int | None = None
    pools: tuple[PoolPreview, ...] = ()
    plan: Plan | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the guards do not allow it; empty: they do."""
        return tuple(reason for pool in self.pools for reason in pool.reasons)


def preview_drain(
    store: ControllerStore, config: ControlConfig, name: str, listen_seconds: float
) -> DrainPreview:
    """Observe, then compute the next tables without this server. Raises ``StoreError``."""
    return preview_of(store, config, name, *listen(store, config, listen_seconds))


def preview_of(
    store: ControllerStore,
    config: ControlConfig,
    name: str,
    published: Published,
    fleet: FleetView,
    kind: Kind = Kind.DRAIN,
) -> DrainPreview:
    """Make the plan of a change from what was observed, and judge the drain in it.

    Raises ``StoreError``.
    """
    seen = see(store, config, name, published, fleet)
    server = seen.cluster.server(name) if seen else None
    if seen is None or server is None:
        return DrainPreview(name, serving=False, requested=name in store.drain_requests())
    view, report = fleet.servers[name], fleet.reports.get(name)
    serving = server.state in SERVING
    plan = make_plan(knowledge(store, seen), kind, name)
    configured = config.server_named(name)
    served = {p.name: p for p in config.pool if configured is None or configured.serves(p.name)}
    previews = [
        _pool(served[pool.pool], server, seen, pool)
        for pool in plan.stages[0].pools
        if serving and pool.pool in served
    ]
    connections = report.connections if report and view.heard else None
    return DrainPreview(name, serving, view.drain_requested, connections, tuple(previews), plan)


def capacities(
    store: ControllerStore, config: ControlConfig, published: Published, fleet: FleetView
) -> dict[str, Capacity]:
    """Return who serves each pool, with the drains that are requested. Raises ``StoreError``."""
    seen = see(store, config, "", published, fleet)
    if seen is None:
        return {}
    return {p.name: _capacity(p, seen) for p in config.pool if p.name in published.tables}


def _pool(pool: PoolConfig, server: Server, seen: Seen, plan: PoolPlan) -> PoolPreview:
    capacity = _capacity(pool, seen)
    held = seen.published.facts[pool.name].current.get(server.index, 0)
    effect = DrainEffect(held, plan.forced, plan.full_seconds, plan.nobody)
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


def _capacity(pool: PoolConfig, seen: Seen) -> Capacity:
    health, views = seen.health(pool.name), seen.fleet.servers
    return capacity_of(seen.config, pool, seen.cluster, views, health, seen.leaving)
