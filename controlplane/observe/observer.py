"""Observes the fleet: reports, acknowledgements, drain requests, probes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from controlplane.decide.server_state import ServerView
from controlplane.decide.views import FleetView
from controlplane.documents.presence import Dump
from controlplane.domain.objects import CLUSTER, IN_USE, Cluster, ServerState
from controlplane.domain.vips import VipPrefixes
from controlplane.observe.heartbeats import Heartbeats, server_views, with_probes
from controlplane.observe.orphans import Orphans
from controlplane.observe.presence import Presence
from controlplane.observe.probe.packet import Probe
from controlplane.observe.probe.schedule import ProbeSchedule
from controlplane.observe.probe.sockets import Prober
from controlplane.observe.probe.target import (
    PoolTargets,
    ProbeTarget,
    Source,
    best_targets,
    candidates,
    checked_targets,
    choose,
    outside,
    why_not,
)
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore

MOST_REMEMBERED = 64
"""Cluster documents, for servers that have not acknowledged the newest."""


class Targets(NamedTuple):
    """What a cluster document gives to probe."""

    best: PoolTargets
    checked: PoolTargets
    vips: VipPrefixes


class Observer:
    """Reads a store and probes silent servers. Without a ``prober`` it only reads.

    ``presence``: where servers have connections, as they report it. ``orphans``: which of them are
    proved to be broken.
    """

    def __init__(
        self, store: ControllerStore, config: ControlConfig, prober: Prober | None, now: float
    ) -> None:
        self._store = store
        self._heartbeats = Heartbeats(now, longest_gap_seconds=_longest_gap(config))
        self.presence = Presence()
        self.orphans = Orphans()
        self.probing = ProbeSchedule(config.probe_interval_seconds)
        self.prober = prober
        self._documents: list[Cluster] = []
        self._targets: dict[int, Targets] = {}
        self._next_silence: float | None = None

    def configure(self, config: ControlConfig, prober: Prober | None) -> None:
        """Take new settings; heartbeats are kept."""
        self._heartbeats.longest_gap_seconds = _longest_gap(config)
        self.probing.interval_seconds = config.probe_interval_seconds
        self.prober = prober

    def look(self, config: ControlConfig, cluster: Cluster | None, now: float) -> FleetView:
        """Read the store, read probe answers and send probes. Raises ``StoreError``."""
        members = cluster.servers if cluster else ()
        configured = [server.name for server in config.server]
        names = dict.fromkeys([server.name for server in members] + configured)
        reports = self._store.reports(names.keys())
        acknowledged = self._store.acknowledgements(names.keys())
        drain_requests = self._store.drain_requests()
        in_use = frozenset(server.name for server in members if server.state in IN_USE)
        self._heartbeats.observe(reports, now, in_use, names.keys())
        self.presence.observe(reports, now)
        self.orphans.observe(reports, now)
        found = server_views(
            names,
            self._heartbeats,
            now,
            silent_after_seconds=config.silent_after_seconds,
            reports=reports,
            acknowledged=acknowledged,
            drain_requests=drain_requests,
            configured=frozenset(configured),
        )
        fleet = FleetView(
            cluster,
            found,
            reports,
            acknowledged,
            config.silent_wait_seconds,
            self._store.twins(),
            drain_requests,
            frozenset(self._store.names()) - names.keys(),
        )
        self._probe(config, fleet, now)
        self._next_silence = _next_silence(found.values(), config.silent_after_seconds, now)
        probed = with_probes(found, self.probing.failed(), self.probing.refused())
        return replace(fleet, servers=probed)

    def last_dumps(self, server: str) -> tuple[Dump, ...]:
        """Return the last dumps of a server's sockets, the newest last, of one run of its agent."""
        seen = self.presence.of(server)
        return seen.dumps if seen else ()

    def next_look(self) -> float | None:
        """When silence or a probe next needs a look, monotonic; ``None``: when a report changes."""
        times = [at for at in (self._next_silence, self.probing.next_due()) if at is not None]
        return min(times, default=None)

    def _probe(self, config: ControlConfig, fleet: FleetView, now: float) -> None:
        prober, cluster = self.prober, fleet.cluster
        self._documents = remembered(self._documents, cluster)
        if prober is None or cluster is None:
            self.probing.round((), now, lambda _: None)
            return
        silent = {
            server.name: server
            for server in cluster.servers
            if server.state is not ServerState.DOWN and fleet.servers[server.name].may_be_dead
        }

        def send(name: str) -> Probe | None:
            known = document_of(self._documents, fleet.acknowledged_by(name, CLUSTER))
            if prober.address not in known.probers:
                return None  # the server would refuse the probe, which proves nothing
            targets = self._targets_of(known)
            source = outside(targets.vips, prober.source)
            target = _next_target(targets, _serves(config, name), source, self.probing.turn(name))
            if target is None:
                return None
            probe = prober.send(silent[name].dip, target.address, target.port)
            return replace(probe, service=target.service) if probe else None

        self.probing.hear(prober.received())
        self.probing.round(silent, now, send)

    def _targets_of(self, cluster: Cluster) -> Targets:
        """Return a remembered document's targets and VIPs. Cached: there may be many services."""
        known = {document.generation for document in self._documents}
        self._targets = {g: t for g, t in self._targets.items() if g in known}
        if cluster.generation not in self._targets:
            vips = VipPrefixes(service.vip for service in cluster.services)
            best, checked = best_targets(cluster.services), checked_targets(cluster.services)
            self._targets[cluster.generation] = Targets(best, checked, vips)
        return self._targets[cluster.generation]

    def unprobed(self, cluster: Cluster) -> dict[str, str]:
        """Return the pools whose servers no probe can reach, with the reason."""
        if self.prober is None or not self._documents:
            return {}
        targets = self._targets_of(document_of(self._documents, cluster.generation))
        source = outside(targets.vips, self.prober.source)
        reasons = {}
        for pool in cluster.pools:
            found = candidates(targets.best, pool.name.__eq__)
            if choose(found, source) is None:
                reasons[pool.name] = why_not(found)
        return reasons


def _next_target(
    targets: Targets, serves: Callable[[str], bool], source: Source, turn: int
) -> ProbeTarget | None:
    """Return the next checked service of the server's pools in turn, else what is best to probe."""
    checked = [t for t in candidates(targets.checked, serves) if serves(t.pool)]
    usable = [t for t in checked if source(t.address) is not None]
    if usable:
        return usable[turn % len(usable)]
    return choose(candidates(targets.best, serves), source)


def _serves(config: ControlConfig, server: str) -> Callable[[str], bool]:
    """Return whether a server serves a pool. A server that left the settings serves all."""
    configured = config.server_named(server)
    return configured.serves if configured else lambda _: True


def _longest_gap(config: ControlConfig) -> float:
    return 2 * config.tick_seconds + config.silent_after_seconds


def _next_silence(
    found: Collection[ServerView], silent_after_seconds: float, now: float
) -> float | None:
    """When the next server becomes silent if no report arrives until then."""
    left = [silent_after_seconds - v.silent_seconds for v in found if v.known and not v.silent]
    return now + min(left) if left else None


def remembered(documents: Sequence[Cluster], newest: Cluster | None) -> list[Cluster]:
    """Return the cluster documents that differ in services or probers, oldest first."""
    if newest is None:
        return list(documents)
    last = documents[-1] if documents else None
    if last and (last.services, last.probers) == (newest.services, newest.probers):
        return list(documents)
    return [*documents, newest][-MOST_REMEMBERED:]


def document_of(documents: Sequence[Cluster], acknowledged: int) -> Cluster:
    """Return the document that a server which acknowledged this generation has in use.

    A silent server may have an older document than the newest, and it refuses probes of VIPs and
    probers that it does not know. If it never acknowledged, the oldest known document is used.
    """
    return next((d for d in reversed(documents) if d.generation <= acknowledged), documents[0])
