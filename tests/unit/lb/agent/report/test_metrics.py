"""Metrics: which there are, under which names, and where they are served."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network
from typing import NoReturn

import httpx2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.documents.presence import Dump, PoolPresence
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import TCP, ServiceHealth
from lb import abi
from lb.agent.facts import PathFacts, PresenceFacts, SharedFacts
from lb.agent.report import metrics
from lb.agent.report.metrics import AgentCollector, program_of, serve_metrics
from lb.dataplane.objects import ServiceEntry

LOOPBACK = IPv4Address("127.0.0.1")
SERVICE = ServiceEntry(IPv4Network("192.0.2.10"), TCP, 80, "web")


def collector(facts: SharedFacts) -> AgentCollector:
    return AgentCollector(
        lambda: facts.current,
        lambda: {"tx_forward": 7, "accept_syn": 3},
        lambda: {SERVICE: (7, 700)},
        lambda: 1000.0,
    )


def samples(facts: SharedFacts) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector(facts))
    text = generate_latest(registry).decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_fact_is_a_metric() -> None:
    facts = SharedFacts(900.0)
    facts.update(
        ready=True,
        attached=True,
        xdp_mode="native",
        generations={"cluster": 4, "table/web": 9},
        since={"cluster": 5.0, "table/web": 9e9},  # a wall clock that was stepped
        taken_at={"cluster": 990.0, "table/web": 997.5},
        last_contact=999.0,
        heard_at=996.0,
        load=0.25,
        connections=12,
        neighbours_unresolved=2,
        checks={"web": ServiceHealth(healthy=False, reason="x")},
    )
    facts.begin_repairs(["vips", "forwarder"])
    facts.count_repair("vips")
    facts.update(missing=("dip",), watch_seconds=0.002, certificates={"ca_file": 5000.0})
    facts.count_refused("table/web", "stale_generation")
    facts.count_hook("on_ready", "failed")
    found = samples(facts)
    expected = {
        "packets_total['forwarder', 'tx_forward']": 7,
        "packets_total['accept_syn', 'redirector']": 3,
        "service_packets_total['192.0.2.10', '80', 'tcp', 'web']": 7,
        "service_bytes_total['192.0.2.10', '80', 'tcp', 'web']": 700,
        "document_generation['table/web']": 9,
        "document_age_seconds['table/web']": 2.5,
        "documents_refused_total['stale_generation', 'table/web']": 1,
        "store_last_contact_timestamp_seconds[]": 999,
        "store_contact_age_seconds[]": 4,
        "xdp_mode['native']": 1,
        "xdp_mode['generic']": 0,
        "ready[]": 1,
        "connections[]": 12,
        "neighbours_unresolved[]": 2,
        "load_ratio[]": 0.25,
        "check_healthy['web']": 0,
        "hook_runs_total['failed', 'on_ready']": 1,
        "repairs_total['vips']": 1,
        "repairs_total['forwarder']": 0,
        "missing['dip']": 1,
        "certificate_end_timestamp_seconds['ca_file']": 5000,
        "watch_duration_seconds[]": 0.002,
    }
    for name, value in expected.items():
        assert found[f"bucket_brigade_{name}"] == value
    assert any(name.startswith("bucket_brigade_build_info") for name in found)


def test_pools_have_their_connections_and_dumps_their_age() -> None:
    facts = SharedFacts(900.0)
    web = PoolPresence("ab" * 8, 256, 17, np.zeros(256, np.bool_))
    dump = Dump(3, None, 1, None, {"web": web})
    facts.update(presence=PresenceFacts(dump, {}, 2, 995.0), dump_seconds=0.004)
    found = samples(facts)
    assert found["bucket_brigade_pool_connections['web']"] == 17
    assert found["bucket_brigade_socket_dump_age_seconds[]"] == 5
    assert found["bucket_brigade_socket_dump_cpu_seconds[]"] == 0.004


def test_strays_have_series_before_the_first_one() -> None:
    facts = SharedFacts(900.0)
    facts.update(strays_total={("web", "forced"): 9, ("web", "unknown"): 0})
    facts.update(strays={("web", "forced"): 2})
    found = samples(facts)
    assert found["bucket_brigade_strays['forced', 'web']"] == 2
    assert found["bucket_brigade_strays['unknown', 'web']"] == 0
    assert found["bucket_brigade_strays_seen_total['forced', 'web']"] == 9
    assert found["bucket_brigade_strays_seen_total['unknown', 'web']"] == 0


def test_what_is_unknown_is_left_out() -> None:
    found = samples(SharedFacts(900.0))
    unknown = ("load_ratio", "contact", "socket_dump", "pool_connections")
    assert not any(part in name for name in found for part in unknown)
    assert found["bucket_brigade_ready[]"] == 0


def test_every_verdict_belongs_to_its_program_of_the_wire_document() -> None:
    border = abi.COUNTERS.index("ok_not_gue")
    for index, verdict in enumerate(abi.COUNTERS):
        if verdict in ("drop_no_stage", "drop_no_dip", "drop_too_big"):
            assert program_of(verdict) == "both"
        else:
            assert program_of(verdict) == ("forwarder" if index < border else "redirector")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_it_is_served_on_the_one_address_and_ends() -> None:
    port = free_port()
    end = serve_metrics(collector(SharedFacts(0.0)), LOOPBACK, port)
    try:
        page = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
        assert "bucket_brigade_ready" in page.text
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.2:{port}/metrics", trust_env=False)
        with pytest.raises(BrigadeError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            serve_metrics(collector(SharedFacts(0.0)), LOOPBACK, port)
    finally:
        end()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)


def test_port_0_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the kernel port 0 means any free port: nothing may ask for it."""

    def start_http_server(port: int, *_: object, **__: object) -> NoReturn:
        pytest.fail(f"a server was started on port {port}")

    monkeypatch.setattr(metrics, "start_http_server", start_http_server)
    end = serve_metrics(collector(SharedFacts(0.0)), LOOPBACK, 0)
    end()


def test_the_settings_have_metrics_also_before_the_first_reload() -> None:
    facts = SharedFacts(900.0)
    found = samples(facts)
    for result in ("ok", "refused"):
        assert found[f"bucket_brigade_settings_reloads_total['{result}']"] == 0
    assert found["bucket_brigade_settings_accepted[]"] == 1
    facts.count_reload("refused")
    facts.update(settings_accepted=False, settings_last_good=True, restart_needed=2)
    found = samples(facts)
    assert found["bucket_brigade_settings_reloads_total['refused']"] == 1
    assert found["bucket_brigade_settings_accepted[]"] == 0
    assert found["bucket_brigade_settings_last_good[]"] == 1
    assert found["bucket_brigade_settings_restart_needed[]"] == 2


def test_paths_are_metrics_by_pair() -> None:
    facts = SharedFacts(900.0)
    facts.update(
        paths={
            "s2": PathFacts(7, 1, reachable=True, mtu=1500),
            "s3": PathFacts(9, 5, reachable=False),
            "s4": PathFacts(3, 3, reachable=None),
        }
    )
    found = {n.removeprefix("bucket_brigade_"): v for n, v in samples(facts).items() if "path" in n}
    assert found == {
        "path_probes_total['s2']": 7,
        "path_probes_total['s3']": 9,
        "path_probes_total['s4']": 3,
        "path_losses_total['s2']": 1,
        "path_losses_total['s3']": 5,
        "path_losses_total['s4']": 3,
        "path_reachable['s2']": 1,
        "path_reachable['s3']": 0,
        "path_mtu_bytes['s2']": 1500,
        "paths['reached']": 1,
        "paths['lost']": 1,
        "paths['unknown']": 1,
    }


def test_in_a_large_fleet_only_paths_with_losses_have_series() -> None:
    """There are as many pairs as servers times servers."""
    facts = SharedFacts(900.0)
    paths = {f"s{n}": PathFacts(9, n % 3, reachable=True) for n in range(metrics.MAX_PATHS * 6)}
    facts.update(paths=paths)
    shown = [name for name in samples(facts) if "path_losses" in name]
    assert len(shown) == metrics.MAX_PATHS
    facts.update(paths={name: PathFacts(9, 0, reachable=True) for name in paths})
    assert [name for name in samples(facts) if "path_losses" in name] == []
    assert samples(facts)["bucket_brigade_paths['reached']"] == len(paths)
