"""Publishes the ``cluster`` document: which servers there are, and in which state."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace

import structlog

from controlplane.decide.deaths import AT_ONCE_SECONDS, Deaths, find_deaths
from controlplane.decide.next_cluster import (
    ClusterNews,
    known_pools,
    newcomers_welcome,
    next_cluster,
)
from controlplane.decide.settlement import Settlement
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import FleetView
from controlplane.domain.bounds import KEY_BYTES
from controlplane.domain.controller_state import ControllerState
from controlplane.domain.objects import CLUSTER, Cluster, Server, ServerState
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.paths import PathJudge
from controlplane.publish.published import Published
from controlplane.publish.twins import TwinWatch
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore

NOT_READY = "not ready, no new connections go there: see lbctl status on that server"
DETACHED = "its programs are detached, it counts as stopped: see lbctl status on that server"
REFUSING = "silent, and its services refuse connections: start its agent and its services"
PATIENCE_SECONDS = 2.0
"""How long the first server that reports waits for the others before the first tables are made."""


class ClusterPublisher:
    """Publishes the ``cluster`` document and remembers what the document does not hold.

    ``settled`` is the newest cluster document that this controller knows to be settled (or to wait
    only for servers that have been silent for too long).
    """

    def __init__(
        self, store: ControllerStore, published: Published, conditions: ConditionLog
    ) -> None:
        self.settled: Cluster | None = None
        self.paths = PathJudge(conditions)
        self._store = store
        self._published = published
        self._conditions = conditions
        self._log = structlog.get_logger()
        self._first_heard_at: float | None = None
        self._joined_at: dict[int, float] = {}
        self._known = ControllerState()
        self._went_down_at: dict[str, float] = {}
        self._key_ids: dict[str, str] = {}
        self._known_dips: dict[str, str] = {}
        self._twins = TwinWatch(store, conditions)

    def resume(self, known: ControllerState) -> None:
        """Go on from what another controller stored, or from what this one last knew."""
        self._known = known

    def publish_next(
        self,
        config: ControlConfig,
        fleet: FleetView,
        settlement: Settlement | None,
        now: float,
        held: Collection[str] = (),
    ) -> Deaths:
        """Publish the next cluster document if there is one to publish now. Raises StoreError.

        ``held``: servers whose requested drain waits.
        """
        current = self._published.cluster
        self._note_dips(current)
        self._twins.note(fleet.twins, now)
        if current and settlement and settlement.passable:
            self.settled = current
        self._remember(config, fleet, now)
        fleet = self.paths.judge(fleet, now)
        deaths = self._deaths(config, fleet)
        self._log_conditions(fleet, settlement, deaths)
        waited = 0.0 if self._first_heard_at is None else now - self._first_heard_at
        news = ClusterNews(
            dead=deaths.dead | self.paths.cut_off.leaving(now),
            full_share=self._full_share(config, now),
            newcomers_welcome=newcomers_welcome(current, fleet.servers, waited, PATIENCE_SECONDS),
            named=frozenset().union(*(facts.named for facts in self._published.facts.values())),
            tables_settled=self._tables_settled(fleet),
            settled=self.settled,
            held=frozenset(held),
        )
        key_ids = self._make_keys(config, current)
        following = next_cluster(config, current, fleet.servers, settlement, news, key_ids)
        if following:
            self._publish(current, following, fleet, now)
            self._note_dips(following)
        return deaths

    def _note_dips(self, cluster: Cluster | None) -> None:
        """Have the store refuse other machines that claim a name of this cluster."""
        dips = {server.name: str(server.dip) for server in cluster.servers} if cluster else {}
        if dips != self._known_dips:
            self._store.know_dips(dips)
            self._known_dips = dips

    def ramps(self, config: ControlConfig, now: float) -> dict[int, float]:
        """Return how far each joining server's slow start is, 0 to 1, by DIP index.

        Before its document is settled, it is where it was: this controller may have just begun.
        """
        started = {
            index: min(1.0, (now - at) / config.slow_start_seconds)
            if config.slow_start_seconds
            else 1.0
            for index, at in self._joined_at.items()
        }
        return {s.index: started.get(s.index, self._progress(s)) for s in self._joining()}

    def slow_start(self, config: ControlConfig, now: float) -> dict[str, float]:
        """Return the same by name, to be stored."""
        ramps = self.ramps(config, now)
        return {server.name: ramps[server.index] for server in self._joining()}

    def _joining(self) -> list[Server]:
        """Return the servers that are joining by the newest document."""
        servers = self._published.cluster.servers if self._published.cluster else ()
        return [server for server in servers if server.state is ServerState.JOINING]

    def _remember(self, config: ControlConfig, fleet: FleetView, now: float) -> None:
        if self._first_heard_at is None and any(v.heard for v in fleet.servers.values()):
            self._first_heard_at = now
        settled = self.settled.servers if self.settled else ()
        known = {s.index for s in settled if s.state is ServerState.JOINING}
        waiting = joins_when_ready(self._joining(), fleet.servers)
        joining = [s for s in self._joining() if s.index in known and s.name not in waiting]
        slow = {n: part for n, part in self._known.slow_start.items() if n not in waiting}
        self._known = replace(self._known, slow_start=slow)  # they begin again when they are ready
        self._joined_at = {
            server.index: self._joined_at.get(
                server.index, now - self._progress(server) * config.slow_start_seconds
            )
            for server in joining
        }
        self._went_down_at = {
            name: at for name, at in self._went_down_at.items() if now - at < AT_ONCE_SECONDS
        }

    def _progress(self, server: Server) -> float:
        """Return how far a slow start is when it begins, or when this controller takes it over.

        Servers that join before the first table need none. A server that has buckets already (its
        drain was cancelled early) keeps them.
        """
        if not self._published.facts:
            return 1.0
        stored = self._known.slow_start.get(server.name)
        if stored is not None:
            return stored
        return max(self._held(pool, server) for pool in self._published.facts)

    def _held(self, pool: str, server: Server) -> float:
        """Return the part of its full share of a pool that a server has by the newest table."""
        current = self._published.facts[pool].current
        cluster = self._published.cluster
        names = {s.index: s.name for s in cluster.servers} if cluster else {}
        shares = self._known.shares.get(pool, {})
        others = {i: shares.get(names.get(i, ""), 1.0) for i in current if i != server.index}
        own, all_others = current.get(server.index, 0), sum(map(current.__getitem__, others))
        if not all_others:
            return float(own > 0)
        per_share = all_others / sum(others.values())
        return min(1.0, own / (per_share * shares.get(server.name, 1.0)))

    def _full_share(self, config: ControlConfig, now: float) -> frozenset[str]:
        ramps = self.ramps(config, now)
        full = {index for index in self._joined_at if ramps.get(index, 0.0) >= 1.0}
        servers = self.settled.servers if self.settled else ()
        return frozenset(server.name for server in servers if server.index in full)

    def _deaths(self, config: ControlConfig, fleet: FleetView) -> Deaths:
        cluster = self._published.cluster
        if cluster is None:
            return Deaths()
        down = {s.name for s in cluster.servers if s.state is ServerState.DOWN}
        return find_deaths(
            cluster,
            fleet.servers,
            probe_count=config.probe_count,
            panic_threshold=config.panic_threshold,
            recently_down=down & self._went_down_at.keys(),
        )

    def _tables_settled(self, fleet: FleetView) -> bool:
        return self._published.cluster is not None and all(
            fleet.settlement(kind, generation).settled
            for kind, generation in self._published.generations().items()
            if kind != CLUSTER
        )

    def _make_keys(self, config: ControlConfig, current: Cluster | None) -> dict[str, str]:
        """Make the secret keys of new pools, once, and return their ids by pool."""
        known = known_pools(current, self.settled)
        new = [pool.name for pool in config.pool if pool.name not in known]
        self._key_ids = {pool: key_id for pool, key_id in self._key_ids.items() if pool in new}
        for pool in new:
            if pool not in self._key_ids:
                key_id = f"{pool[:40]}-{secrets.token_hex(6)}"
                self._store.put_key(key_id, secrets.token_bytes(KEY_BYTES))
                self._key_ids[pool] = key_id
        return self._key_ids

    def _publish(
        self, current: Cluster | None, following: Cluster, fleet: FleetView, now: float
    ) -> None:
        before = {server.name: server for server in current.servers} if current else {}
        for name in before.keys() - {server.name for server in following.servers}:
            self._store.forget(name)  # first, so that a failure or a crash repeats it
        self._published.publish_cluster(following)
        for server in following.servers:
            old = before.pop(server.name, None)
            if old and old.state is server.state:
                continue
            went_down = old and server.state is ServerState.DOWN
            view = fleet.servers[server.name]
            if went_down and not view.stopped and not view.leaving:
                self._went_down_at[server.name] = now
            self._log.info(
                "server state",
                about=server.name,
                was=old.state.value if old else None,
                now=server.state.value,
                generation=following.generation,
            )
        for name in before:
            self._log.info("server left", about=name, generation=following.generation)

    def _log_conditions(
        self, fleet: FleetView, settlement: Settlement | None, deaths: Deaths
    ) -> None:
        log, cluster = self._conditions, self._published.cluster
        for server in cluster.servers if cluster else ():
            view = fleet.servers[server.name]
            counted = server.state is not ServerState.DOWN and view.known and not view.stopped
            silent = counted and view.silent
            log.set("agent is silent, its shares are frozen", server.name, silent)
            log.set(NOT_READY, server.name, counted and view.not_ready)
            log.set(DETACHED, server.name, view.detached)
            log.set(REFUSING, server.name, view.refused_services if silent else None)
        log.set("panic: too many look dead at once", "cluster", deaths.withheld)
        going_on = settlement.silent if settlement and settlement.passable else ()
        log.set("going on without silent agents", CLUSTER, going_on)
        refusing = settlement.refusing if settlement else ()
        log.set("refused: other settings may replace it", CLUSTER, refusing)
