"""Probes of a returning server through the tunnel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controlplane.domain.objects import Check, CheckType, Cluster, Server, ServerState, Service
from controlplane.observe.probe.packet import ProbeAnswer
from controlplane.operator.rolling.tunnel import AGAIN_SECONDS, TunnelProbes
from controlplane.settings.models import ControlConfig
from tests.unit.controlplane.conftest import FakeProber

CONFIG = ControlConfig.model_validate(
    {"server": [{"name": "s1", "dip": "10.0.0.1"}], "pool": [{"name": "web"}]}
)
HTTP = Service("http", IPv4Network("192.0.2.1"), 6, 80, "web", check=Check(type=CheckType.TCP))
TLS = replace(HTTP, name="tls", port=443)
VIP, DIP = IPv4Address("192.0.2.1"), IPv4Address("10.0.0.1")


def cluster(*services: Service) -> Cluster:
    server = Server("s1", DIP, 1, ServerState.DRAINING)
    return Cluster(generation=1, servers=(server,), services=services)


@pytest.fixture
def prober() -> FakeProber:
    return FakeProber()


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def probes(prober: FakeProber, clock: list[float]) -> TunnelProbes:
    return TunnelProbes(prober, CONFIG, lambda: clock[0])


def test_every_checked_service_has_to_accept(prober: FakeProber, probes: TunnelProbes) -> None:
    known = cluster(HTTP, TLS)
    assert probes.ask("s1", known) is None
    assert prober.asked == {(VIP, 80), (VIP, 443)}
    assert probes.ask("s1", known) == ""


def test_an_answer_from_before_the_command_proves_nothing(
    prober: FakeProber, probes: TunnelProbes
) -> None:
    probes.ask("s1", cluster(HTTP))
    probes.forget("s1")
    prober.dead.add(DIP)
    assert probes.ask("s1", cluster(HTTP)) is None
    assert probes.ask("s1", cluster(HTTP)) is None


def test_a_reset_of_a_checked_service_is_not_an_answer(
    prober: FakeProber, probes: TunnelProbes, clock: list[float]
) -> None:
    prober.refusing.add(DIP)
    probes.ask("s1", cluster(HTTP))
    assert probes.ask("s1", cluster(HTTP)) == "192.0.2.1:80 refuses connections"
    prober.refusing.clear()
    clock[0] += AGAIN_SECONDS
    probes.ask("s1", cluster(HTTP))
    assert probes.ask("s1", cluster(HTTP)) == ""


def test_silence_is_reported_and_asked_again(
    prober: FakeProber, probes: TunnelProbes, clock: list[float]
) -> None:
    prober.dead.add(DIP)
    assert probes.ask("s1", cluster(HTTP)) is None
    clock[0] += AGAIN_SECONDS
    assert probes.ask("s1", cluster(HTTP)) == "no answer from 192.0.2.1:80"
    assert len(prober.probed) == 2


def test_where_nothing_is_checked_any_answer_will_do(
    prober: FakeProber, probes: TunnelProbes
) -> None:
    prober.refusing.add(DIP)
    udp = replace(HTTP, name="dns", protocol=17, port=53, check=Check())
    assert probes.ask("s1", cluster(udp)) is None
    assert probes.ask("s1", cluster(udp)) == ""


def test_an_answer_to_somebody_elses_probe_does_not_count(
    prober: FakeProber, probes: TunnelProbes, monkeypatch: pytest.MonkeyPatch
) -> None:
    prober.dead.add(DIP)
    probes.ask("s1", cluster(HTTP))
    other = ProbeAnswer(VIP, 80, 40000, 77)
    monkeypatch.setattr(prober, "received", lambda: [other])
    assert probes.ask("s1", cluster(HTTP)) is None


def test_without_a_prober_there_is_nothing_to_ask() -> None:
    assert TunnelProbes(None, CONFIG, lambda: 0.0).ask("s1", cluster(HTTP)) == ""
