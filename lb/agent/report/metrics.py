"""Prometheus metrics, served on the DIP only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import lb
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import port_text, protocol_text, vip_text
from lb.agent.config import XDP_MODES
from lb.agent.facts import Facts, PathFacts
from lb.dataplane.objects import ServiceEntry

PREFIX = "bucket_brigade"
REDIRECTOR_VERDICTS = ("ok_", "accept_", "pass_on", "drop_gue", "drop_unknown", "drop_hop")
REDIRECTOR_DROPS = ("drop_inner", "drop_not_vip", "drop_ecn", "drop_error")
SHARED_VERDICTS = frozenset({"drop_no_dip", "drop_no_stage", "drop_too_big"})

PATH_STATES: Mapping[str, bool | None] = {"reached": True, "lost": False, "unknown": None}
MAX_PATHS = 64
"""Peers with series of their own: a fleet of n servers has n times as many."""
SERVICE_LABELS = ("vip", "protocol", "port", "pool")

Labels = tuple[str, ...]
Counts = Mapping[str, int]
ServiceCounts = Mapping[ServiceEntry, tuple[int, int]]


def program_of(verdict: str) -> str:
    """Return which program counts a verdict (docs/wire.md, sections 4 and 6)."""
    if verdict in SHARED_VERDICTS:
        return "both"
    redirector = verdict.startswith((*REDIRECTOR_VERDICTS, *REDIRECTOR_DROPS))
    return "redirector" if redirector else "forwarder"


class AgentCollector(Collector):
    """Turns the facts and the programs' counters into metrics, on request.

    ``clock``: the monotonic one.
    """

    def __init__(
        self,
        facts: Callable[[], Facts],
        counters: Callable[[], Counts],
        services: Callable[[], ServiceCounts],
        clock: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._counters = counters
        self._services = services
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: nothing can clash in a registry of our own."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield everything."""
        facts = self._facts()
        yield from self._traffic()
        yield from _documents(facts, self._clock())
        yield from _gauges(facts, self._clock())
        yield from _strays(facts)
        yield from _outcomes(facts)
        yield from _settings(facts)
        yield from _paths(facts)

    def _traffic(self) -> Iterator[Metric]:
        verdicts = (((program_of(name), name), n) for name, n in self._counters().items())
        text = "Packets by verdict; see docs/wire.md"
        yield _counter("packets", text, ("program", "verdict"), verdicts)
        services = [(_service_labels(s), counts) for s, counts in self._services().items()]
        text = "Packets for a service, first hop only"
        yield _counter("service_packets", text, SERVICE_LABELS, ((s, n) for s, (n, _) in services))
        text = "Bytes of those packets, before encapsulation"
        yield _counter("service_bytes", text, SERVICE_LABELS, ((s, n) for s, (_, n) in services))


def _service_labels(service: ServiceEntry) -> Labels:
    protocol, port = protocol_text(service.protocol), port_text(service.port)
    return vip_text(service.vip), protocol, port, service.pool


def _counter(
    name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]
) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for of, value in values:
        family.add_metric([of], value)
    return family


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _documents(facts: Facts, now: float) -> Iterator[Metric]:
    generations = sorted(facts.generations.items())
    yield _gauge("document_generation", "Generation in use", "kind", generations)
    since = [(kind, facts.taken_at[kind]) for kind, _ in generations if kind in facts.taken_at]
    text = "Time since that generation was taken into use"
    yield _gauge(
        "document_age_seconds", text, "kind", ((kind, max(0.0, now - at)) for kind, at in since)
    )
    refused = sorted(facts.refused.items())
    yield _counter("documents_refused", "Documents refused", ("kind", "reason"), refused)
    if facts.last_contact is not None:
        text = "When the store last answered"
        yield _single("store_last_contact_timestamp_seconds", text, facts.last_contact)
    if facts.heard_at is not None:
        text = "Time since the store last answered"
        yield _single("store_contact_age_seconds", text, max(0.0, now - facts.heard_at))


def _gauges(facts: Facts, now: float) -> Iterator[Metric]:
    yield _gauge("build_info", "Version of the agent", "version", [(lb.__version__, 1)])
    modes = ((mode, float(facts.attached and facts.xdp_mode == mode)) for mode in XDP_MODES)
    yield _gauge("xdp_mode", "1 for the mode that the forwarder is attached in", "mode", modes)
    yield _single("ready", "Whether this server may be given traffic", float(facts.ready))
    yield _single("agent_start_timestamp_seconds", "When this agent started", facts.started_at)
    yield _single("load_duration_seconds", "Time to compile and load", facts.load_seconds)
    yield _single("connections", "Open connections on VIPs", facts.connections)
    if facts.presence is not None:
        pools = sorted(facts.presence.dump.pools.items())
        text = "Connections of a pool, opening and closing ones included"
        yield _gauge("pool_connections", text, "pool", ((n, p.connections) for n, p in pools))
        text = "CPU time of the last dump of the sockets"
        yield _single("socket_dump_cpu_seconds", text, facts.dump_seconds)
        age = max(0.0, now - facts.presence.taken_at)
        yield _single("socket_dump_age_seconds", "Time since that dump", age)
    text = "DIPs without a next-hop MAC"
    yield _single("neighbours_unresolved", text, facts.neighbours_unresolved)
    if facts.xdp_tx_lost is not None:
        text = "Forwarded frames (XDP_TX) that the driver dropped or held back"
        yield _counter("xdp_tx_lost", text, (), [((), facts.xdp_tx_lost)])
    yield _single("mss_room_bytes", "By how much the MSS of VIPs is lowered", facts.mss_overhead)
    yield _single("troubles", "Things that are wrong now: see lbctl status", len(facts.troubles))
    if facts.load is not None:
        yield _single("load_ratio", "Busy time over capacity, as reported", facts.load)


def _strays(facts: Facts) -> Iterator[Metric]:
    labels = ("pool", "cause")
    text = "Open connections that no table leads to now"
    now = GaugeMetricFamily(f"{PREFIX}_strays", text, labels=labels)
    for of in sorted(facts.strays_total):
        now.add_metric(of, facts.strays.get(of, 0))
    yield now
    text = "Connections that no table led to any more, each counted once"
    yield _counter("strays_seen", text, labels, sorted(facts.strays_total.items()))
    text = "Flows whose segments arrived here and had nowhere to go, by what happened to the bucket"
    yield _counter("orphans", text, ("pool", "kind"), sorted(facts.orphans_total.items()))
    text = "Connections here that another server answered with a reset"
    yield _counter("held", text, (), [((), facts.held_total)])


def _outcomes(facts: Facts) -> Iterator[Metric]:
    text = "Health of a service here, after rise and fall"
    checks = ((name, float(health.healthy)) for name, health in sorted(facts.checks.items()))
    yield _gauge("check_healthy", text, "service", checks)
    hooks = sorted(facts.hooks.items())
    yield _counter("hook_runs", "Runs of on_ready and on_withdraw", ("hook", "result"), hooks)
    repairs = (((what,), count) for what, count in sorted(facts.repairs.items()))
    yield _counter("repairs", "What somebody changed, and the agent put back", ("what",), repairs)
    text = "CPU time of the last look at all that is watched"
    yield _single("watch_duration_seconds", text, facts.watch_seconds)
    text = "1 while this server does not have what it needs, so that it is withdrawn"
    yield _gauge("missing", text, "what", ((what, 1.0) for what in facts.missing))


def _settings(facts: Facts) -> Iterator[Metric]:
    reloads = (((result,), count) for result, count in sorted(facts.reloads.items()))
    yield _counter("settings_reloads", "Reloads of the settings (SIGHUP)", ("result",), reloads)
    yield _single(
        "settings_accepted",
        "1 if the file was accepted when it was last read, 0 if refused",
        float(facts.settings_accepted),
    )
    yield _single(
        "settings_last_good",
        "1 while the last good settings are in use, not the file",
        float(facts.settings_last_good),
    )
    yield _single(
        "settings_restart_needed", "Changed keys that need a restart", facts.restart_needed
    )
    text = "When a certificate in use ends, by the key that names its file"
    ends = sorted(facts.certificates.items())
    yield _gauge("certificate_end_timestamp_seconds", text, "file", ends)
    if facts.settings_read_at is not None:
        yield _single(
            "settings_read_timestamp_seconds",
            "When the settings in use were read from the file",
            facts.settings_read_at,
        )


def _paths(facts: Facts) -> Iterator[Metric]:
    shown = _shown_paths(facts)
    text = "Probes of the path to another server"
    yield _counter("path_probes", text, ("peer",), (((n,), p.probes) for n, p in shown.items()))
    text = "Probes without an answer in time"
    yield _counter("path_losses", text, ("peer",), (((n,), p.losses) for n, p in shown.items()))
    reachable = ((n, float(p.reachable)) for n, p in shown.items() if p.reachable is not None)
    text = "1 if probes of the path are answered, 0 if it is lost"
    yield _gauge("path_reachable", text, "peer", reachable)
    narrow = ((name, float(p.mtu)) for name, p in shown.items() if p.mtu is not None)
    yield _gauge("path_mtu_bytes", "MTU of a path that is narrower than the link", "peer", narrow)
    states = Counter(str(path.reachable) for path in facts.paths.values())
    counts = ((name, states[str(value)]) for name, value in PATH_STATES.items())
    yield _gauge("paths", "Paths to other servers, by what probes have shown", "state", counts)


def _shown_paths(facts: Facts) -> Mapping[str, PathFacts]:
    """Return the paths that have series of their own: in a large fleet, those with losses."""
    paths = facts.paths
    if len(paths) <= MAX_PATHS:
        return paths
    worst = sorted(paths, key=lambda name: (-paths[name].losses, name))[:MAX_PATHS]
    return {name: paths[name] for name in sorted(worst) if paths[name].losses}


def serve_metrics(collector: Collector, dip: IPv4Address, port: int) -> Callable[[], None]:
    """Serve ``/metrics`` on the DIP from a thread; return a function to end it. Port 0: do not.

    Raises:
        BrigadeError: the port cannot be bound.

    """
    if port == 0:
        return lambda: None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, _thread = start_http_server(port, addr=str(dip), registry=registry)
    except OSError as error:
        raise BrigadeError(
            f"cannot serve metrics on {dip}:{port}: {error.strerror}; "
            "set another [metrics] port, or 0 for none"
        ) from error

    def end() -> None:
        closing: Any = server
        closing.shutdown()
        closing.server_close()

    return end
