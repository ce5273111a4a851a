"""Prometheus metrics, served on the DIP only."""

from __future__ import annotations

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
from lb.agent.facts import Facts
from lb.dataplane.objects import ServiceEntry

PREFIX = "bucket_brigade"
REDIRECTOR_VERDICTS = ("ok_", "accept_", "pass_on", "drop_gue", "drop_unknown", "drop_hop")
REDIRECTOR_DROPS = ("drop_inner", "drop_not_vip", "drop_ecn", "drop_error")
SHARED_VERDICTS = frozenset({"drop_no_dip", "drop_no_stage", "drop_too_big"})

Counts = Mapping[str, int]
ServiceCounts = Mapping[ServiceEntry, tuple[int, int]]


def program_of(verdict: str) -> str:
    """Return which program counts a verdict (docs/wire.md, sections 4 and 6)."""
    if verdict in SHARED_VERDICTS:
        return "both"
    redirector = verdict.startswith((*REDIRECTOR_VERDICTS, *REDIRECTOR_DROPS))
    return "redirector" if redirector else "forwarder"


class AgentCollector(Collector):
    """Turns the facts and the programs' counters into metrics, on request."""

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
        yield from _gauges(facts)
        yield from _outcomes(facts)

    def _traffic(self) -> Iterator[Metric]:
        packets = _counter("packets", "Packets by verdict; see docs/wire.md", "program", "verdict")
        for verdict, count in self._counters().items():
            packets.add_metric([program_of(verdict), verdict], count)
        yield packets
        labels = ("vip", "protocol", "port", "pool")
        by_packets = _counter("service_packets", "Packets for a service, first hop only", *labels)
        by_bytes = _counter(
            "service_bytes", "Bytes of those packets, before encapsulation", *labels
        )
        for service, (count, size) in self._services().items():
            values = [
                vip_text(service.vip),
                protocol_text(service.protocol),
                port_text(service.port),
                service.pool,
            ]
            by_packets.add_metric(values, count)
            by_bytes.add_metric(values, size)
        yield by_packets
        yield by_bytes


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _documents(facts: Facts, now: float) -> Iterator[Metric]:
    generation = _gauge("document_generation", "Generation in use", "kind")
    age = _gauge("document_age_seconds", "Time since that generation was taken into use", "kind")
    for kind, number in sorted(facts.generations.items()):
        generation.add_metric([kind], number)
        if kind in facts.since:
            age.add_metric([kind], max(0.0, now - facts.since[kind]))
    yield generation
    yield age
    refused = _counter("documents_refused", "Documents refused", "kind", "reason")
    for (kind, reason), count in sorted(facts.refused.items()):
        refused.add_metric([kind, reason], count)
    yield refused
    if facts.last_contact is not None:
        yield _single(
            "store_last_contact_timestamp_seconds",
            "When the store last answered",
            facts.last_contact,
        )


def _gauges(facts: Facts) -> Iterator[Metric]:
    build = _gauge("build_info", "Version of the agent", "version")
    build.add_metric([lb.__version__], 1)
    yield build
    mode = _gauge("xdp_mode", "1 for the mode that the forwarder is attached in", "mode")
    for name in XDP_MODES:
        mode.add_metric([name], float(facts.attached and facts.xdp_mode == name))
    yield mode
    yield _single("ready", "Whether this server may be given traffic", float(facts.ready))
    yield _single("agent_start_timestamp_seconds", "When this agent started", facts.started_at)
    yield _single("load_duration_seconds", "Time to compile and load", facts.load_seconds)
    yield _single("connections", "Established TCP connections on VIPs", facts.connections)
    yield _single(
        "neighbours_unresolved", "DIPs without a next-hop MAC", facts.neighbours_unresolved
    )
    yield _single("mss_room_bytes", "By how much the MSS of VIPs is lowered", facts.mss_overhead)
    yield _single("troubles", "Things that are wrong now: see lbctl status", len(facts.troubles))
    if facts.load is not None:
        yield _single("load_ratio", "Busy time over capacity, as reported", facts.load)


def _outcomes(facts: Facts) -> Iterator[Metric]:
    checks = _gauge("check_healthy", "Health of a service here, after rise and fall", "service")
    for name, health in sorted(facts.checks.items()):
        checks.add_metric([name], float(health.healthy))
    yield checks
    hooks = _counter("hook_runs", "Runs of on_ready and on_withdraw", "hook", "result")
    for (hook, result), count in sorted(facts.hooks.items()):
        hooks.add_metric([hook, result], count)
    yield hooks


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
