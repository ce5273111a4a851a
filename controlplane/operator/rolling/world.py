"""The fleet as a rolling run sees it: the controller's store, probes, commands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.decide.groups import reported_losses
from controlplane.decide.plan.objects import Kind
from controlplane.decide.views import FleetView
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.decisions import Decisions, Reason
from controlplane.domain.objects import IN_USE, CheckType, Server, ServerState, Service
from controlplane.observe.observer import Observer
from controlplane.operator.drain import progress
from controlplane.operator.drain_preview import DrainPreview, preview_of
from controlplane.operator.overview import decisions_of, panics
from controlplane.operator.planning import foreseen_of
from controlplane.operator.requests import drain_request
from controlplane.operator.rolling.command import Commands
from controlplane.operator.rolling.facts import FleetFacts, Mark, ServerFacts, Sign, Turn
from controlplane.operator.rolling.run import Guard
from controlplane.operator.rolling.tunnel import TunnelProbes
from controlplane.operator.rolling.watch import NO_LEADER, strays_of
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore

JITTER = 1.1
"""Intervals of checks vary by a tenth (``lb.agent.report.checks``)."""
ROUNDING = 0.02
"""So much of its part may be missing from a server: with shares by load, buckets always move."""
LASTING = frozenset({Reason.CAP, Reason.WEIGHT, Reason.OTHER})
"""Reasons for missing buckets that waiting does not end."""


def notice_seconds(services: Iterable[Service]) -> float:
    """Return how long a service that has failed may still count as healthy, by its check."""
    return max(
        (
            s.check.fall * (JITTER * s.check.interval_seconds + s.check.timeout_seconds)
            for s in services
        ),
        default=0.0,
    )


def _proved(servers: Iterable[Server], decided: Decisions) -> dict[str, int]:
    """Return the proved connections of each server: also 0, which a new controller begins with."""
    counts = {server.name: 0 for server in servers}
    for one in decided.proved:
        counts[one.held_by] = counts.get(one.held_by, 0) + one.count
    return counts


@dataclass(frozen=True)
class _Seen:
    """What one look has read."""

    fleet: FleetView
    decided: Decisions
    lost_by: dict[str, list[str]]


class FleetWorld:
    """Observes by the store, and requests what a run does. For one thread."""

    def __init__(
        self,
        store: ControllerStore,
        config: ControlConfig,
        commands: Commands,
        probes: TunnelProbes,
        reason: str,
    ) -> None:
        self._store = store
        self._config = config
        self._commands = commands
        self._probes = probes
        self._reason = reason
        self._observer = Observer(store, config, None, time.monotonic())
        self.published = Published(store)
        self.fleet = FleetView()

    def look(self) -> FleetFacts:
        """Read the store. Raises ``StoreError``."""
        self.published.refresh()
        cluster, now = self.published.cluster, time.monotonic()
        self.fleet = fleet = self._observer.look(self._config, cluster, now)
        decided, servers = decisions_of(self._store), cluster.servers if cluster else ()
        fresh = frozenset(name for name, view in fleet.servers.items() if view.alive)
        lost_by: dict[str, list[str]] = {}
        for reporter, lost in sorted(reported_losses(fleet.reports, fresh).items()):
            for name in lost:
                lost_by.setdefault(name, []).append(reporter)
        seen = _Seen(fleet, decided, lost_by)
        forced = {n: pool.forced for n, pool in decided.pools.items() if pool.forced is not None}
        counts = {name: strays_of(report) for name, report in fleet.reports.items()}
        return FleetFacts(
            servers={server.name: self._server(server, seen) for server in servers},
            signs=frozenset(self._signs(servers, seen)),
            waiting=tuple(self._waiting(fleet)),
            forced=forced if len(forced) == len(decided.pools) else None,
            strays={name: count for name, count in counts.items() if count is not None},
            proved=_proved(servers, decided),
        )

    def preview(self, server: str) -> DrainPreview:
        """Return what a drain would do now. Raises ``StoreError``."""
        return preview_of(self._store, self._config, server, self.published, self.fleet)

    def guard(self, server: str) -> Guard:
        """Return why a server's drain would be refused. Raises ``StoreError``."""
        pools = self.preview(server).pools
        lacking = tuple(pool.lacking for pool in pools if pool.lacking)
        full = tuple(r for pool in pools for r in pool.reasons if r != pool.lacking)
        return Guard(lacking, full)

    def request(self, server: str) -> DrainRequest:
        """Return a request to drain this server, made now."""
        del server
        return drain_request(self._reason)

    def drain(self, server: str, request: DrainRequest) -> None:
        """Request a drain. Raises ``StoreError``."""
        self._foresee(server, Kind.DRAIN)
        self._store.request_drain(server, requested=True, request=request)

    def undrain(self, server: str, request: DrainRequest | None) -> None:
        """Cancel this request, and no other one. Raises ``StoreError``."""
        if request is not None and self._store.drain_requests().get(server) == request:
            self._foresee(server, Kind.UNDRAIN)
            self._store.request_drain(server, requested=False)

    def _foresee(self, server: str, kind: Kind) -> None:
        """Keep what a change will do, for the history."""
        plan = preview_of(self._store, self._config, server, self.published, self.fleet, kind).plan
        if plan is not None:
            self._store.put_foreseen(server, foreseen_of(plan))

    def start(self, turn: Turn) -> None:
        """Start the command for a server. Raises ``BrigadeError``."""
        self._commands.start(turn.name, turn.dip)

    def ended(self, server: str) -> int | None:
        """Return the exit code of a server's command, ``None`` while it runs."""
        code = self._commands.ended(server)
        if code is not None:
            self._probes.forget(server)
        return code

    def probe(self, server: str) -> str | None:
        """Probe a server through the tunnel."""
        return self._probes.ask(server, self.published.cluster)

    def wait(self, seconds: float) -> None:
        """Wait until a report changes, or the time is over; at least a tenth of it."""
        time.sleep(seconds / 10)
        self._store.wait_reports(0.9 * seconds)

    def _server(self, server: Server, seen: _Seen) -> ServerFacts:
        fleet, name = seen.fleet, server.name
        view, report = fleet.servers[name], fleet.reports.get(name)
        services = self._checked(name)
        checks = report.checks if report else {}
        failing = [(s.name, checks[s.name].reason) for s in services if self._fails(checks, s)]
        return ServerFacts(
            state=server.state,
            mark=Mark(report.boot_id, report.sequence) if report else Mark(),
            heard=view.heard,
            stopped=view.stopped,
            leaving=view.leaving,
            ready=view.ready,
            drain=progress(name, self.published.facts, self.published.generations(), fleet),
            request=fleet.drain_requests.get(name),
            held=seen.decided.held.get(name, ()),
            unhealthy=tuple(f"{one} ({why})" if why else one for one, why in failing),
            unchecked=tuple(s.name for s in services if s.name not in checks),
            notice_seconds=notice_seconds(services),
            lacking=tuple(self._lacking(name, seen.decided)),
            lost_by=tuple(seen.lost_by.get(name, ())),
        )

    def _fails(self, checks: object, service: Service) -> bool:
        found = checks.get(service.name) if isinstance(checks, dict) else None
        return found is not None and not found.healthy

    def _checked(self, server: str) -> list[Service]:
        """Return the services of a server's pools that are checked."""
        cluster, configured = self.published.cluster, self._config.server_named(server)
        return [
            service
            for service in (cluster.services if cluster else ())
            if service.check.type is not CheckType.NONE
            and (configured is None or configured.serves(service.pool))
        ]

    def _lacking(self, server: str, decided: Decisions) -> Iterable[str]:
        """Yield what keeps a server from its share and ends by itself, by pool."""
        for name, pool in sorted(decided.pools.items()):
            table, found = self.published.tables.get(name), pool.servers.get(server)
            configured = self._config.server_named(server)
            if table is None or configured is None or not configured.serves(name):
                continue
            if found is None or pool.generation != table.generation:
                yield f"pool {name}: the controller has not judged its newest table yet"
                continue
            for one in found.missing:
                if one.reason not in LASTING and one.buckets > ROUNDING * found.part:
                    yield f"pool {name} lacks {one.buckets:,} buckets: {one.reason.value}"

    def _waiting(self, fleet: FleetView) -> Iterable[str]:
        for kind, generation in sorted(self.published.generations().items()):
            found = fleet.settlement(kind, generation)
            if not found.passable:
                yield f"{kind} generation {generation} waits for {', '.join(found.waiting_for)}"

    def _signs(self, servers: Sequence[Server], seen: _Seen) -> Iterable[Sign]:
        if self._store.leader() is None:
            yield Sign("", NO_LEADER)
        for server in servers:
            for text in self._of_server(server, seen):
                yield Sign(server.name, text)
        cluster = self.published.cluster
        for pool in self.published.tables if cluster else ():
            if cluster and panics(pool, cluster, self._config, seen.fleet, seen.decided):
                yield Sign("", f"pool {pool} is in panic: too many of its servers are unhealthy")

    def _of_server(self, server: Server, seen: _Seen) -> Iterable[str]:
        view, report = seen.fleet.servers[server.name], seen.fleet.reports.get(server.name)
        if server.state not in IN_USE:
            return ["is down"] if server.state is ServerState.DOWN else []
        conditions = {
            "its agent is silent": view.silent,
            "its programs are detached": view.detached or view.stopped,
            "is not ready": view.not_ready,
            "two machines have this name": server.name in seen.fleet.twins,
        }
        found = [text for text, applies in conditions.items() if applies]
        found += [f"packets to it are lost from {one}" for one in seen.lost_by.get(server.name, ())]
        if report is not None:
            checks = sorted(report.checks.items())
            found += [f"its check fails: {name}" for name, health in checks if not health.healthy]
            found += [f"TROUBLE: {trouble}" for trouble in report.errors]
        return found
