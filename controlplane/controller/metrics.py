"""The controller's own Prometheus metrics."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from controlplane.controller.loop import Round
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import ServerState
from controlplane.settings.models import MetricsConfig

RELOAD_RESULTS = ("ok", "refused")
PREFIX = "bucket_brigade_controller"
BUILD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class ControlMetrics:
    """A registry with the controller's metrics; ``served`` serves it over HTTP."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        self.state = gauge("server_state", "1 for the state that a server is in", "server", "state")
        self.silent = gauge("server_silent", "1 while an agent is silent", "server")
        self.probes = gauge("server_probes_failed", "Probes in a row without answer", "server")
        self.cut_off = gauge(
            "server_cut_off", "1 while the other servers do not reach it", "server"
        )
        self.losses = gauge(
            "server_paths_lost", "Servers to or from which packets are lost", "server"
        )
        self.split = gauge(
            "servers_split", "1 while servers do not reach each other and none may leave"
        )
        self.unknown = gauge(
            "unknown_names", "Names under which somebody reports and that are not in the settings"
        )
        self.strays = gauge("server_strays", "Open connections that no table leads to", "server")
        self.share = gauge("share", "Relative share of a pool", "pool", "server")
        self.buckets = gauge("buckets", "Buckets a server is current for", "pool", "server")
        self.generation = gauge("generation", "Newest published generation", "kind")
        self.settled = gauge("settled", "1 if the newest generation is settled", "kind")
        self.waiting = gauge("waiting_for", "Servers that a generation waits for", "kind")
        self.panic = gauge("panic", "1 while too many are unhealthy at once", "pool")
        self.load_unknown = gauge(
            "load_unknown", "Servers whose load is not known to a pool balanced by load", "pool"
        )
        self.withheld = gauge("deaths_withheld", "Servers that look dead, too many at once")
        self.held = gauge("drain_held", "1 while a guard holds a requested drain back", "server")
        self.moved = counter("moved_buckets", "Buckets given another current server", "pool")
        self.prepared = counter("prepared_buckets", "Newcomers put second in a chain", "pool")
        self.forced = counter("hops_forced", "Hops pushed out within their drain time", "pool")
        self.forgotten = counter(
            "hops_forgotten", "Hops dropped because of their age, forced ones not included", "pool"
        )
        self.empty = counter("hops_empty", "Hops that left because they had no connections", "pool")
        self.build = Histogram(
            f"{PREFIX}_build_seconds",
            "Time to build a table",
            ("pool",),
            registry=self.registry,
            buckets=BUILD_BUCKETS,
        )
        self.claims = counter(
            "claims_refused", "Reports and acknowledgements of another machine", "server"
        )
        self._claims_seen: dict[str, int] | None = None
        self.presence = counter(
            "presence_refused", "Reports whose presence could not be read", "server"
        )
        self._presence_seen: dict[str, int] = {}
        self.proved = counter(
            "proved",
            "Connections that a server has and another one answered with a reset",
            "server",
        )
        self._proved_seen: dict[str, int] = {}
        self.flows = counter(
            "flows_refused", "Reports and answers about flows that were not believed", "server"
        )
        self._flows_seen: dict[str, int] = {}
        self.sent = counter("probes_sent", "Probes sent")
        self.unanswered = counter("probes_unanswered", "Probes without answer")
        self.rounds = counter("rounds", "Rounds of the loop")
        self._seen: dict[Counter, int] = {}
        self.reloads = counter("settings_reloads", "Reloads of the settings (SIGHUP)", "result")
        for result in RELOAD_RESULTS:
            self.reloads.labels(result)
        self.accepted = gauge(
            "settings_accepted", "1 if the file was accepted when it was last read, 0 if refused"
        )
        self.read_at = gauge(
            "settings_read_timestamp_seconds", "When the settings in use were read from the file"
        )
        self.last_good = gauge(
            "settings_last_good", "1 while the last good settings are in use, not the file"
        )
        self.restart = gauge("settings_restart_needed", "Changed keys that need a restart")

        self.certificate = gauge(
            "certificate_end_timestamp_seconds",
            "When a certificate in use ends, by the key that names its file",
            "file",
        )

    @contextmanager
    def served(self, config: MetricsConfig) -> Iterator[None]:
        """Serve the metrics on the configured port while the context lives; port 0: not at all.

        Raises ``BrigadeError``: the port is in use, or the address is not this machine's.
        """
        if not config.port:
            yield
            return
        try:
            server, thread = start_http_server(config.port, config.address, self.registry)
        except OSError as error:
            raise BrigadeError(
                f"metrics cannot listen on {config.address} port {config.port}: {error.strerror}; "
                "set [metrics] address and port, or port = 0"
            ) from None
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def show_start(self, *, refused: bool) -> None:
        """Set the metrics of the settings that the controller starts with."""
        self.accepted.set(not refused)
        self.last_good.set(refused)
        if not refused:
            self.read_at.set_to_current_time()

    def show_reload(self, result: str, *, restart_needed: int = 0) -> None:
        """Update the metrics after a reload, ``ok`` or ``refused``."""
        self.reloads.labels(result).inc()
        self.accepted.set(result == "ok")
        if result == "ok":
            self.last_good.set(0)
            self.read_at.set_to_current_time()
            self.restart.set(restart_needed)

    def show_certificates(self, ends: Mapping[str, float]) -> None:
        """Set when the certificates in use end, in Unix seconds."""
        self.certificate.clear()
        for key, end in ends.items():
            self.certificate.labels(key).set(end)

    def show(self, done: Round) -> None:
        """Update the metrics from a round."""
        self.rounds.inc()
        self._show_servers(done)
        for kind, found in done.settlements.items():
            self.generation.labels(kind).set(found.generation)
            self.settled.labels(kind).set(found.settled)
            self.waiting.labels(kind).set(len(found.waiting_for))
        self.withheld.set(len(done.deaths.withheld))
        self._show_pools(done)

    def _show_servers(self, done: Round) -> None:
        by_server = (self.state, self.silent, self.probes, self.cut_off, self.losses, self.held)
        for gauge in (*by_server, self.strays):
            gauge.clear()
        self.split.set(done.groups.split)
        self.unknown.set(len(done.fleet.unknown))
        for server in done.cluster.servers:
            view = done.fleet.servers[server.name]
            for state in ServerState:
                self.state.labels(server.name, state.value).set(server.state is state)
            self.silent.labels(server.name).set(view.silent)
            self.probes.labels(server.name).set(view.probes_failed)
            self.held.labels(server.name).set(server.name in done.held)
            if view.heard:
                strays = done.fleet.reports[server.name].strays
                self.strays.labels(server.name).set(sum(one.count for one in strays))
            self.cut_off.labels(server.name).set(server.name in done.cut_off)
            self.losses.labels(server.name).set(len(done.groups.losses.get(server.name, ())))
        self._show_claims(done)
        for name, refused in done.presence_refused.items():
            self.presence.labels(name).inc(max(0, refused - self._presence_seen.get(name, 0)))
        self._presence_seen = dict(done.presence_refused)
        self._show_proved(done)
        for counter, total in (
            (self.sent, done.probes_sent),
            (self.unanswered, done.probes_unanswered),
        ):
            counter.inc(max(0, total - self._seen.get(counter, 0)))
            self._seen[counter] = total

    def _show_proved(self, done: Round) -> None:
        """Count by the server that has the connection: a rate needs the 0 before the first."""
        servers = [server.name for server in done.cluster.servers]
        held: Counts[str] = Counts()
        for one in done.proved:
            held[one.held_by] += one.count
        for name in servers:
            self.proved.labels(name).inc(max(0, held[name] - self._proved_seen.get(name, 0)))
            refused = done.flows_refused.get(name, 0)
            self.flows.labels(name).inc(max(0, refused - self._flows_seen.get(name, 0)))
        self._proved_seen, self._flows_seen = dict(held), dict(done.flows_refused)

    def _show_claims(self, done: Round) -> None:
        """Count what was refused since the start: the store's counts outlive controllers."""
        now = {name: twin.refused for name, twin in done.fleet.twins.items()}
        before = now if self._claims_seen is None else self._claims_seen
        for name in (server.name for server in done.cluster.servers):
            refused, seen = now.get(name, 0), before.get(name, 0)
            self.claims.labels(name).inc(refused - seen if refused >= seen else refused)
        self._claims_seen = now

    def _show_pools(self, done: Round) -> None:
        names = {server.index: server.name for server in done.cluster.servers}
        _by_server(self.share, done.shares, names)
        _by_server(self.buckets, done.buckets, names)
        self.load_unknown.clear()
        for pool, unknown in done.load_unknown.items():
            self.load_unknown.labels(pool).set(len(unknown))
        for pool, outcome in done.outcomes.items():
            self.panic.labels(pool).set(outcome.health.panic)
            for counter in (self.moved, self.prepared, self.forced, self.forgotten, self.empty):
                counter.labels(pool)  # a rate needs the 0 before the first event
            if outcome.result is None or outcome.build_seconds is None:
                continue
            self.build.labels(pool).observe(outcome.build_seconds)
            if outcome.result.table is not None:
                self.moved.labels(pool).inc(outcome.result.moved)
                self.prepared.labels(pool).inc(outcome.result.prepared)
                self.forced.labels(pool).inc(outcome.result.forced)
                self.forgotten.labels(pool).inc(outcome.result.forgotten)
                self.empty.labels(pool).inc(outcome.result.dropped)


def _by_server(
    gauge: Gauge, values: Mapping[str, Mapping[int, float]], names: Mapping[int, str]
) -> None:
    gauge.clear()
    for pool, by_index in values.items():
        for index, value in by_index.items():
            gauge.labels(pool, names.get(index, str(index))).set(value)
