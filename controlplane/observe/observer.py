"""One look at the fleet: reports, acknowledgements, wishes, probes. The effects of observing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Acknowledged
from controlplane.domain.objects import CLUSTER, Cluster, Report, ServerState
from controlplane.domain.vips import VipSet
from controlplane.observe.heartbeats import Watch, views
from controlplane.observe.probe.packet import Probe
from controlplane.observe.probe.schedule import Probing
from controlplane.observe.probe.sockets import Prober
from controlplane.observe.probe.target import (
    Targets,
    best_targets,
    candidates,
    choose,
    outside,
    why_not,
)
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore

MOST_REMEMBERED = 64
"""Changes of services and probers."""


@dataclass(frozen=True)
class Sight:
    """What one look found; ``views`` has every server of the cluster and of the settings."""

    views: Mapping[str, ServerView] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    acknowledged: Acknowledged = field(default_factory=dict)


class Observer:
    """Looks at the fleet through a store, and probes who is silent. ``prober`` may be ``None``."""

    def __init__(
        self, store: ControllerStore, config: ControlConfig, prober: Prober | None, now: float
    ) -> None:
        self._store = store
        self._watch = Watch(now, longest_gap_seconds=_longest_gap(config))
        self.probing = Probing(config.probe_interval_seconds)
        self.prober = prober
        self._documents: list[Cluster] = []
        self._targets: dict[int, tuple[Targets, VipSet]] = {}
        self._next_silence: float | None = None

    def configure(self, config: ControlConfig, prober: Prober | None) -> None:
        """Take new settings; what was heard stays heard."""
        self._watch.longest_gap_seconds = _longest_gap(config)
        self.probing.interval_seconds = config.probe_interval_seconds
        self.prober = prober

    def look(self, config: ControlConfig, cluster: Cluster | None, now: float) -> Sight:
        """Read the store and hear and send probes. Raises ``StoreError``."""
        servers = cluster.servers if cluster else ()
        reports = self._store.reports()
        acknowledged = self._store.acknowledgements()
        wished = self._store.drain_wishes()
        configured = [server.name for server in config.server]
        names = dict.fromkeys([server.name for server in servers] + configured)
        self._watch.observe(reports, now)

        def seen(failed: Mapping[str, int]) -> dict[str, ServerView]:
            return views(
                names,
                self._watch,
                now,
                silent_after_seconds=config.silent_after_seconds,
                reports=reports,
                acknowledged=acknowledged,
                probes_failed=failed,
                wished=wished,
                configured=configured,
            )

        self._probe(config, cluster, seen({}), acknowledged, now)
        found = seen(self.probing.failed())
        self._next_silence = _next_silence(found.values(), config.silent_after_seconds, now)
        return Sight(found, reports, acknowledged)

    def next_look(self) -> float | None:
        """When silence or a probe next needs a look, monotonic; ``None``: reports will say."""
        times = [at for at in (self._next_silence, self.probing.next_due()) if at is not None]
        return min(times, default=None)

    def _probe(
        self,
        config: ControlConfig,
        cluster: Cluster | None,
        found: Mapping[str, ServerView],
        acknowledged: Acknowledged,
        now: float,
    ) -> None:
        prober = self.prober
        self._documents = remembered(self._documents, cluster)
        if prober is None or cluster is None:
            self.probing.round((), now, lambda _: None)
            return
        silent = {
            server.name: server
            for server in cluster.servers
            if server.state is not ServerState.DOWN
            and found[server.name].known
            and found[server.name].silent
            and not found[server.name].stopped
        }

        def send(name: str) -> Probe | None:
            known = document_of(self._documents, acknowledged.get(name, {}).get(CLUSTER, 0))
            if prober.address not in known.probers:
                return None  # it would refuse the probe as a stranger's, which proves nothing
            targets, vips = self._targets_of(known)
            found = candidates(targets, _serves(config, name))
            target = choose(found, outside(vips, prober.source))
            return prober.send(silent[name].dip, target.address, target.port) if target else None

        self.probing.hear(prober.received())
        self.probing.round(silent, now, send)

    def _targets_of(self, cluster: Cluster) -> tuple[Targets, VipSet]:
        """Return a remembered document's targets and VIPs; there may be thousands of services."""
        known = {document.generation for document in self._documents}
        self._targets = {g: t for g, t in self._targets.items() if g in known}
        if cluster.generation not in self._targets:
            vips = VipSet(service.vip for service in cluster.services)
            self._targets[cluster.generation] = best_targets(cluster.services), vips
        return self._targets[cluster.generation]

    def unprobed(self, cluster: Cluster) -> dict[str, str]:
        """Return the pools whose servers no probe can reach, with the reason, as last looked at."""
        if self.prober is None or not self._documents:
            return {}
        targets, vips = self._targets_of(document_of(self._documents, cluster.generation))
        source = outside(vips, self.prober.source)
        reasons = {}
        for pool in cluster.pools:
            found = candidates(targets, pool.name.__eq__)
            if choose(found, source) is None:
                reasons[pool.name] = why_not(found)
        return reasons


def _serves(config: ControlConfig, server: str) -> Callable[[str], bool]:
    """Return whether a server serves a pool; one that has left the settings serves all."""
    configured = config.server_named(server)
    return configured.serves if configured else lambda _: True


def _longest_gap(config: ControlConfig) -> float:
    return 2 * config.tick_seconds + config.silent_after_seconds


def _next_silence(
    found: Collection[ServerView], silent_after_seconds: float, now: float
) -> float | None:
    """When the next server falls silent if nothing is heard until then."""
    left = [silent_after_seconds - v.silent_seconds for v in found if v.known and not v.silent]
    return now + min(left) if left else None


def remembered(documents: Sequence[Cluster], newest: Cluster | None) -> list[Cluster]:
    """Return the cluster documents that differ in what a probe depends on, oldest first."""
    if newest is None:
        return list(documents)
    last = documents[-1] if documents else None
    if last and (last.services, last.probers) == (newest.services, newest.probers):
        return list(documents)
    return [*documents, newest][-MOST_REMEMBERED:]


def document_of(documents: Sequence[Cluster], acknowledged: int) -> Cluster:
    """Return the document that a server which has acknowledged this generation goes by.

    A silent one may know less than is published: VIPs and probers that are new to it prove nothing.
    One that never acknowledged is asked by the oldest that this controller has seen.
    """
    return next((d for d in reversed(documents) if d.generation <= acknowledged), documents[0])
