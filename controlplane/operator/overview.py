"""The state of the fleet as plain values, for tables and for ``--json``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from controlplane.decide.groups import Groups, Losses, reported_losses
from controlplane.decide.health import PoolHealth, fold, pool_health
from controlplane.decide.pool_step import members
from controlplane.decide.settlement import Settlement
from controlplane.decide.views import FleetView
from controlplane.documents.fields import DocumentError
from controlplane.documents.flows import decode_flows
from controlplane.domain.decisions import Decisions, PoolDecisions
from controlplane.domain.objects import (
    IN_USE,
    Cluster,
    Report,
    Server,
    ServerState,
    Service,
    protocol_text,
    vip_text,
)
from controlplane.domain.vips import VipPrefixes
from controlplane.observe.observer import Observer
from controlplane.observe.probe.sockets import probe_source
from controlplane.observe.probe.target import (
    Source,
    best_targets,
    candidates,
    choose,
    outside,
    why_not,
)
from controlplane.publish.paths import judged
from controlplane.publish.published import Published
from controlplane.publish.twins import claim_text
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore, StoreCorrupt


def overview(
    store: ControllerStore, config: ControlConfig, listen_seconds: float
) -> dict[str, Any]:
    """Observe for ``listen_seconds``, then return servers, pools and documents. Raises StoreError.

    ``leader``: which controller leads the store, null: none.
    ``servers``: name, dip, index, state, agent (``speaks``, ``silent``, ``stopped``, ``detached``,
    ``leaving``: `lbctl down` waits there, ``unknown``), ready, not_ready (in use, and not ready for
    so long that no new connections go to it), load (0 to 1 or null), connections, wished_draining,
    drain_request (by, at in Unix seconds, 0 if unknown, reason and force; null: none), drain_held
    (why it waits), keeps (pools whose buckets it keeps because no other server can take them),
    strays (open connections that no table leads to, by pool and cause, each with its count; null if
    the server is not heard), orphans (flows whose segments had nowhere to go there since its agent
    started, by pool and kind, each with its count; null likewise), proved (connections that it has
    and for whose segments another server, broken_by, had no socket, since the controller that leads
    started, each with its count), unhealthy (services), refusing (services of a silent server where
    nothing listens, by the controller's probes, while one leads), buckets by pool, share (part of
    each pool, 0 to 1), lost_by (servers whose packets to it are lost by their own report), cut_off
    (the others do not reach it, and are the majority, or have reached it again for too short a
    time), cut_off_reason (why it may not join yet, by the controller that leads, or null).
    ``split``: servers do not reach each other, and no group of them has a majority. ``services``:
    name, vip, protocol, port (null: any), pool. ``pools``: name, buckets, depth, hash_mode,
    generation, in_transition, probe (what a probe of its servers is sent to, or null), unprobed
    (why it is null) and panic (too many of its servers are unhealthy, so their checks are ignored;
    as the controller decided, while one leads).
    ``documents``: kind, generation, settled, waiting_for, ahead (the highest generation that a
    server has acknowledged, if the store is behind it, else null).
    """
    published, fleet = listen(store, config, listen_seconds)
    cluster, leader = published.cluster, store.leader()
    decided = decisions_of(store) if leader else Decisions()
    servers = cluster.servers if cluster else ()
    services = cluster.services if cluster else ()
    fresh = frozenset(name for name, view in fleet.servers.items() if view.alive)
    groups = judged(fleet, fresh)
    paths = Paths(groups, reported_losses(fleet.reports, fresh))
    return {
        "leader": leader,
        "split": groups.split,
        "servers": [_server(s, published, fleet, decided, paths) for s in servers],
        "services": [_service(service) for service in services],
        "pools": [
            _pool(name, published, config, fleet, decided) for name in sorted(published.tables)
        ],
        "documents": [
            _document(fleet.settlement(kind, generation), _ahead(fleet, servers, kind, generation))
            for kind, generation in sorted(published.generations().items())
        ],
    }


class Paths(NamedTuple):
    """Which servers reach each other, and the losses that each reports."""

    groups: Groups
    claims: Losses


def listen(
    store: ControllerStore, config: ControlConfig, seconds: float
) -> tuple[Published, FleetView]:
    """Observe for so long, so that silent agents are known; return what there is then.

    Raises ``StoreError``.
    """
    published = Published(store)
    observer = Observer(store, config, None, time.monotonic())
    published.refresh()
    fleet = observer.look(config, published.cluster, time.monotonic())
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        store.wait_reports(left)
        published.refresh()
        fleet = observer.look(config, published.cluster, time.monotonic())
    return published, fleet


def decisions_of(store: ControllerStore) -> Decisions:
    """Return what the controller decided last; damaged decisions count as none."""
    try:
        return store.decisions() or Decisions()
    except StoreCorrupt:
        return Decisions()


def _server(
    server: Server, published: Published, fleet: FleetView, decided: Decisions, paths: Paths
) -> dict[str, Any]:
    view, report = fleet.servers[server.name], fleet.reports.get(server.name)
    request = fleet.drain_requests.get(server.name)
    gone = server.state is ServerState.DOWN and not view.alive
    lost_by = [] if gone else [n for n, lost in paths.claims.items() if server.name in lost]
    buckets = {pool: f.current.get(server.index, 0) for pool, f in published.facts.items()}
    agent = "speaks" if view.heard else "silent" if view.known else "unknown"
    agent = "leaving" if view.leaving else agent
    # By its last report: this process has not listened for as long as the controller waits.
    detached = report is not None and report.detached
    return {
        "name": server.name,
        "dip": str(server.dip),
        "index": server.index,
        "state": server.state.value,
        "agent": "detached" if detached else "stopped" if view.stopped else agent,
        "ready": view.ready,
        "not_ready": server.state in IN_USE and view.heard and not view.ready,
        "twin": claim_text(fleet.twins[server.name]) if server.name in fleet.twins else None,
        "load": report.load if report else None,
        "connections": report.connections if report else 0,
        "strays": [vars(one) for one in report.strays] if report and view.heard else None,
        "orphans": _orphans(report) if report and view.heard else None,
        "proved": [
            {"broken_by": one.broken_by, "count": one.count}
            for one in decided.proved
            if one.held_by == server.name
        ],
        "wished_draining": view.drain_requested,
        "drain_request": vars(request) if request else None,
        "keeps": keeping(server.name, decided),
        "drain_held": list(decided.held.get(server.name, ())) if view.drain_requested else [],
        "lost_by": sorted(lost_by),
        "cut_off": server.name in paths.groups.outside or server.name in decided.cut_off,
        "cut_off_reason": decided.cut_off.get(server.name),
        "unhealthy": sorted(n for n, h in report.checks.items() if not h.healthy) if report else [],
        "refusing": [] if view.heard else list(decided.refusing.get(server.name, ())),
        "buckets": buckets,
        "share": {pool: n / published.tables[pool].buckets for pool, n in buckets.items()},
    }


def _orphans(report: Report) -> list[dict[str, Any]]:
    """Return how many orphans a server has counted; what cannot be read counts as none."""
    try:
        counts = decode_flows(report.flows).counts
    except DocumentError:
        return []
    return [{"pool": p, "kind": k, "count": count} for (p, k), count in sorted(counts.items())]


def keeping(server: str, decided: Decisions) -> list[str]:
    """Return the pools whose buckets a server keeps because no other server can take them."""
    return sorted(
        name
        for name, pool in decided.pools.items()
        if server in pool.servers and pool.servers[server].keeps
    )


def keeps_text(pools: Iterable[str]) -> str:
    """Return why a server keeps its buckets of these pools, for people."""
    return (
        f"no other server of pool {', '.join(pools)} can take its buckets, so it keeps them until "
        "one can"
    )


def _service(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "vip": vip_text(service.vip),
        "protocol": protocol_text(service.protocol),
        "port": service.port,
        "pool": service.pool,
    }


def _pool(
    name: str, published: Published, config: ControlConfig, fleet: FleetView, decided: Decisions
) -> dict[str, Any]:
    table, cluster = published.tables[name], published.cluster
    pool = cluster.pool(name) if cluster else None
    services = cluster.services if cluster else ()
    found = candidates(best_targets(services), name.__eq__)
    source = outside(VipPrefixes(service.vip for service in services), towards(config))
    target = choose(found, source) if config.probers else None
    reason = why_not(found) if config.probers else "no probers are configured"
    return {
        "name": name,
        "buckets": table.buckets,
        "depth": table.depth,
        "hash_mode": pool.hash_mode if pool else None,
        "probe": target.text if target else None,
        "unprobed": None if target else reason,
        "generation": table.generation,
        "in_transition": published.facts[name].in_transition,
        "panic": cluster is not None and panics(name, cluster, config, fleet, decided),
        "load": next((pool.load for pool in config.pool if pool.name == name), None),
        "load_unknown": list(decided.pools.get(name, PoolDecisions()).load_unknown),
    }


def panics(
    pool: str, cluster: Cluster, config: ControlConfig, fleet: FleetView, decided: Decisions
) -> bool:
    """Whether the controller ignores a pool's checks; without its word, whether it would."""
    found = health_of(pool, cluster, config, fleet)
    return decided.pools[pool].panic if pool in decided.pools else found.panic


def health_of(pool: str, cluster: Cluster, config: ControlConfig, fleet: FleetView) -> PoolHealth:
    """Return which of a pool's servers report failing checks now."""
    failing = fold(frozenset(), fleet.reports, cluster.services)
    serving = members(config, cluster, pool)
    return pool_health(pool, cluster.services, failing, serving, config.panic_threshold)


def towards(config: ControlConfig) -> Source:
    """Return the source addresses of a controller on this machine with these settings."""
    return lambda vip: probe_source(vip, config.probers[0])


def _ahead(fleet: FleetView, servers: Iterable[Server], kind: str, generation: int) -> int | None:
    newest = max((fleet.acknowledged_by(server.name, kind) for server in servers), default=0)
    return newest if newest > generation else None


def _document(settlement: Settlement, ahead: int | None) -> dict[str, Any]:
    return {
        "kind": settlement.kind,
        "generation": settlement.generation,
        "settled": settlement.settled,
        "waiting_for": list(settlement.waiting_for),
        "ahead": ahead,
    }
