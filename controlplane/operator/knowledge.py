"""From the store to what a plan is made from (``controlplane.decide.plan.known``).

A plan is made in the operator's process, by the documents, reports and decisions that the store
has: the controller makes its own tables by the same.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from controlplane.builder import BuildRequest, Occupancy
from controlplane.decide.empty_hops import Dumps, InUse, newest_presence, occupancy
from controlplane.decide.health import PoolHealth
from controlplane.decide.plan.known import Known, KnownPool, KnownServer
from controlplane.decide.pool_step import members, pool_states
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import FleetView
from controlplane.documents.controller import decode_controller
from controlplane.documents.fields import DocumentError
from controlplane.documents.presence import Dump, decode_presence, key_id_of
from controlplane.domain.controller_state import CONTROLLER, ControllerState
from controlplane.domain.decisions import Decisions, PoolDecisions
from controlplane.domain.objects import Cluster, Pool, Server, ServerState, Table
from controlplane.domain.seen_dumps import SeenDump
from controlplane.operator.overview import decisions_of, health_of, panics
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig, PoolConfig
from controlplane.store.contract import ControllerStore, StoreCorrupt, StoreError

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class Seen:
    """What an operator's process sees of a running fleet.

    ``leaving``: servers whose requested drain the controller has not held back. ``stored``: what
    the controller stored last. ``dumps``: of servers that are heard. ``wall``: Unix seconds.
    """

    config: ControlConfig
    published: Published
    cluster: Cluster
    fleet: FleetView
    decided: Decisions
    leaving: Collection[str]
    stored: ControllerState
    dumps: Mapping[str, SeenDump]
    wall: float

    @property
    def fleet_seconds(self) -> float:
        """The fleet time that a controller stored last; it is at most a little too low."""
        facts = self.published.facts.values()
        return max([self.stored.fleet_seconds, *(one.last_moved_at for one in facts)])

    def health(self, pool: str) -> PoolHealth:
        """Return who is unhealthy in a pool, and whether that is ignored."""
        found = health_of(pool, self.cluster, self.config, self.fleet)
        panic = panics(pool, self.cluster, self.config, self.fleet, self.decided)
        return PoolHealth(found.unhealthy, panic)


def see(
    store: ControllerStore, config: ControlConfig, name: str, published: Published, fleet: FleetView
) -> Seen | None:
    """Return what is known for a change of a server, ``None`` before the first document.

    Raises ``StoreError``.
    """
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
    stored, dumps = _stored(store), _dumps(store, fleet)
    return Seen(config, published, cluster, fleet, decided, leaving, stored, dumps, time.time())


def _stored(store: ControllerStore) -> ControllerState:
    with suppress(StoreCorrupt, DocumentError):
        version = store.latest(CONTROLLER)
        if version is not None:
            return decode_controller(version.data)
    return ControllerState()


def _dumps(store: ControllerStore, fleet: FleetView) -> dict[str, SeenDump]:
    """Return the last dump of each server that is heard: what a silent one reported is over."""
    try:
        found = store.dumps()
    except StoreCorrupt:
        return {}
    return {n: seen for n, seen in found.items() if n in fleet.servers and fleet.servers[n].heard}


def _decoded(dumps: Mapping[str, SeenDump]) -> dict[str, Dump]:
    found = {}
    for name, seen in dumps.items():
        with suppress(DocumentError):
            found[name] = decode_presence(seen.body)
    return found


def knowledge(store: ControllerStore, seen: Seen) -> Known:
    """Return what a plan is made from. Raises ``StoreError``."""
    tables, dumps = seen.published.tables, _decoded(seen.dumps)
    pools = {
        pool.name: found
        for pool in seen.config.pool
        if pool.name in tables and (found := _pool(store, pool, tables[pool.name], seen, dumps))
    }
    decided = max(0.0, seen.wall - seen.decided.at) if seen.decided.at else None
    return Known(
        {server.name: _server(server, seen) for server in seen.cluster.servers},
        pools,
        seen.config.slow_start_seconds,
        decided,
    )


def _server(server: Server, seen: Seen) -> KnownServer:
    view, report = seen.fleet.servers[server.name], seen.fleet.reports.get(server.name)
    configured = seen.config.server_named(server.name)
    report = report if view.heard else None
    pools = [pool.name for pool in seen.config.pool if configured and configured.serves(pool.name)]
    return KnownServer(
        server.name,
        server.index,
        server.state,
        frozenset(pools),
        report.load if report else None,
        report.connections if report else None,
        configured.max_connections if configured else None,
        alive=view.alive,
        drain_requested=view.drain_requested,
        dump_age_seconds=_age(server.name, seen),
    )


def _age(server: str, seen: Seen) -> float | None:
    """Return how old a server's dump is: the controller notes when it first saw each."""
    dump = seen.dumps.get(server)
    return max(0.0, seen.wall - dump.at) if dump and dump.at else None


def _pool(
    store: ControllerStore, pool: PoolConfig, table: Table, seen: Seen, last: Mapping[str, Dump]
) -> KnownPool | None:
    shape = seen.cluster.pool(pool.name)
    if shape is None or (table.buckets, table.depth) != (shape.buckets, shape.depth):
        return None
    indices = {server.name: server.index for server in seen.cluster.servers}
    dumps: Dumps = {indices[n]: (dump,) for n, dump in last.items() if n in indices}
    key_id = _key_id(store, shape) if dumps else None
    heard = {
        indices[n]: 0.0 for n, view in seen.fleet.servers.items() if n in indices and view.heard
    }
    known = occupancy(table, key_id, InUse(), dumps, heard) if key_id else None
    return KnownPool(
        table,
        _request(pool, shape, table, seen, known),
        newest_presence(table, key_id, dumps) if key_id else {},
        _by_index(seen.stored.shares.get(pool.name, {}), indices),
    )


def _key_id(store: ControllerStore, pool: Pool) -> str | None:
    """Return the digest of a pool's key; ``None``: who asks may not read it, or it is damaged."""
    try:
        return key_id_of(store.key(pool.key_id))
    except StoreError:
        return None


def _request(
    pool: PoolConfig, shape: Pool, table: Table, seen: Seen, known: Occupancy | None
) -> BuildRequest:
    """Return the request for the next table, with what the controller published of the pool.

    That empty hops are proved is not known here. Where nothing moves, they leave within seconds.
    """
    decided = seen.decided.pools.get(pool.name, PoolDecisions())
    indices = {other.name: other.index for other in seen.cluster.servers}
    return BuildRequest(
        pool=shape,
        cluster_generation=table.cluster_generation,
        generation=table.generation + 1,
        shares=_by_index(decided.shares, indices),
        states=_states(pool.name, seen),
        settled=True,
        now=seen.fleet_seconds,
        drain_time_seconds=pool.drain_time_seconds,
        caps=_by_index(decided.caps, indices),
        cap_factor=pool.cap,
        forget_after_seconds=seen.config.forget_after_seconds(pool),
        forget_occupied=pool.forget_after_seconds is not None,
        occupancy=known,
    )


def _by_index(values: Mapping[str, Value], indices: Mapping[str, int]) -> dict[int, Value]:
    return {indices[name]: value for name, value in values.items() if name in indices}


def _states(pool: str, seen: Seen) -> dict[int, ServerState]:
    """Return the states as the controller's builder has them once the document is settled."""
    health = seen.health(pool)
    unhealthy = frozenset() if health.panic else health.unhealthy
    not_yet = joins_when_ready(seen.cluster.servers, seen.fleet.servers)
    serving = members(seen.config, seen.cluster, pool, not_yet)
    everywhere = {server.index for server in seen.cluster.servers}
    return pool_states(seen.cluster, seen.published.facts[pool], serving, everywhere, unhealthy)
