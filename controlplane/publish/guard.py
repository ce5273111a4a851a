"""Judges requests to drain before they are acted on: which go ahead, which wait, and why."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from controlplane.decide.guards import NOT_JUDGED, breaks, capacity_of, lacks
from controlplane.decide.plan.effect import DrainEffect
from controlplane.decide.views import FleetView
from controlplane.domain.objects import SERVING, Server
from controlplane.publish.pool import PoolPublisher
from controlplane.settings.models import ControlConfig

HELD = "drain held back, a guard does not allow it"
Held = Mapping[str, tuple[str, ...]]
"""Server -> why its requested drain waits."""
Pools = Mapping[str, PoolPublisher]


class DrainGuard:
    """Judges all drains that are requested and not published yet, in every round. For one thread.

    One after the other, each as if those before it had been carried out: of two that arrive
    together, the second is judged by what the first leaves. Those that may go ahead stay first.
    """

    def __init__(self) -> None:
        self.held: Held = {}
        self._going: dict[str, None] = {}
        self._effects: dict[tuple[str, str], tuple[object, DrainEffect]] = {}
        self._log = structlog.get_logger()

    def judge(self, config: ControlConfig, fleet: FleetView, pools: Pools, now: float) -> Held:
        """Return the drains that wait now. ``pools`` is as the round before left it.

        ``now`` is in monotonic seconds; within one of them, hops are counted once for each table.
        """
        members = fleet.cluster.servers if fleet.cluster else ()
        requested = {
            server.name: server
            for server in members
            if server.state in SERVING and fleet.servers[server.name].drain_requested
        }
        order = [name for name in self._going if name in requested]
        order += [name for name in sorted(requested) if name not in self._going]
        self._going = {}
        held = {}
        for name in order:
            forced = name in fleet.drain_requests and fleet.drain_requests[name].force
            reasons = () if forced else self._reasons(requested[name], config, fleet, pools, now)
            if reasons:
                held[name] = reasons
            else:
                self._going[name] = None
        self._effects = {key: kept for key, kept in self._effects.items() if key[0] in requested}
        self._note(held)
        self.held = held
        return held

    def _reasons(
        self, server: Server, config: ControlConfig, fleet: FleetView, pools: Pools, now: float
    ) -> tuple[str, ...]:
        cluster, configured = fleet.cluster, config.server_named(server.name)
        if cluster is None or configured is None:
            return ()
        served = [p for p in config.pool if configured.serves(p.name) and cluster.pool(p.name)]
        if any(pool.name not in pools for pool in served):
            return (NOT_JUDGED,)
        reasons = []
        for pool in served:
            publisher = pools[pool.name]
            health = publisher.health
            capacity = capacity_of(config, pool, cluster, fleet.servers, health, self._going)
            reasons.append(lacks(server.name, capacity))
            reasons.append(breaks(pool.name, self._effect(server, publisher, now)))
        return tuple(reason for reason in reasons if reason)

    def _effect(self, server: Server, publisher: PoolPublisher, now: float) -> DrainEffect:
        key, moment = (server.name, publisher.pool.name), (publisher.generation, int(now))
        kept = self._effects.get(key)
        if kept is None or kept[0] != moment:
            kept = self._effects[key] = (moment, publisher.effect_of_drain(server.index))
        return kept[1]

    def _note(self, held: Held) -> None:
        for name in held.keys() - self.held.keys():
            self._log.warning(
                HELD,
                about=name,
                reason="; ".join(held[name]),
                remedy=f"lbctl undrain {name}, or lbctl drain {name} --force",
            )
        for name in self.held.keys() - held.keys():
            self._log.info(f"{HELD}: over", about=name)
