"""A check is about this server: nobody else can answer it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest

from controlplane.domain.objects import (
    TCP,
    Check,
    CheckType,
    ServerState,
    Service,
    ServiceHealth,
    Vip,
)
from netns import brigade
from netns.build import build_route
from netns.network import Network
from netns.polling import NotInTimeError, wait_until
from tests.netns import talk
from tests.netns.agent_helpers import POOL, PORT, Fleet, cluster, table

HTTP_PORT = PORT + 1
VIPS: Mapping[str, Vip] = {
    "v4": IPv4Network("192.0.2.10"),
    "v6": IPv6Network("2001:db8::10"),
    "prefix4": IPv4Network("192.0.2.128/25"),
    "prefix6": IPv6Network("2001:db8:1::/64"),
}
START_SECONDS = 60.0
STATES = [ServerState.ACTIVE] * 2
ROUNDS_SECONDS = 1.5
"""A check every 0.1 s, unhealthy after two: a wrong verdict would come in this time."""


def services() -> list[Service]:
    """Each VIP has a service that is checked by a connection, and one by a request."""
    return [
        Service(
            f"{kind}-{name}",
            vip,
            TCP,
            port,
            POOL,
            check=Check(kind, interval_seconds=0.1, timeout_seconds=0.5, rise=2, fall=2),
        )
        for kind, port in ((CheckType.TCP, PORT), (CheckType.HTTP, HTTP_PORT))
        for name, vip in VIPS.items()
    ]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two servers; what is for a VIP goes to server 1 and belongs to it."""
    topology = brigade.brigade(2, 1, list(VIPS.values()), dual_stack=True)
    with Network(topology) as network:
        for vip in VIPS.values():
            build_route(brigade.vip_route(vip, (1,)), network[brigade.ROUTER])
        yield Fleet(network)


def verdicts(fleet: Fleet, number: int) -> Mapping[str, ServiceHealth]:
    report = fleet.store.reports().get(brigade.server_name(number))
    return report.checks if report else {}


def others(fleet: Fleet, number: int, *, healthy: bool) -> dict[str, str]:
    """Services without this verdict, and why."""
    found = verdicts(fleet, number)
    names = [service.name for service in services()]
    return {
        name: found[name].reason if name in found else "no verdict"
        for name in names
        if name not in found or found[name].healthy != healthy
    }


def are_all(fleet: Fleet, number: int, *, healthy: bool, seconds: float = 15.0) -> None:
    """Wait until all services have this verdict."""
    wanted = f"server {number} is {'' if healthy else 'un'}healthy"
    try:
        wait_until(lambda: not others(fleet, number, healthy=healthy), wanted, seconds)
    except NotInTimeError:
        assert others(fleet, number, healthy=healthy) == {}, wanted


def test_a_server_without_vip_and_service_is_not_kept_healthy_by_another(fleet: Fleet) -> None:
    """Its checks left by the router, and server 1 answered them."""
    fleet.publish(cluster(1, STATES, services()))
    fleet.publish(table(1, [1, 0]))
    running = []
    for number in (1, 2):
        host = fleet.host(number)
        running = [
            talk.serve_tcp(host, [PORT]),
            host.popen([sys.executable, "-m", "http.server", "--bind", "::", str(HTTP_PORT)]),
        ]
        fleet.up(number)
    for number in (1, 2):
        are_all(fleet, number, healthy=True, seconds=START_SECONDS)
    host = fleet.host(2)
    for vip in VIPS.values():
        version, length = f"-{vip.version}", vip.prefixlen
        if length == vip.max_prefixlen:
            host.run(["ip", version, "address", "del", f"{vip}", "dev", "lo"])
        else:
            words = ["ip", version, "route", "del", "local", f"{vip}", "dev", "lo", "table"]
            host.run([*words, "local"])
    for process in running:
        process.kill()
    are_all(fleet, 2, healthy=False, seconds=5)
    ends = time.monotonic() + ROUNDS_SECONDS
    while time.monotonic() < ends:
        assert others(fleet, 2, healthy=False) == {}
        assert others(fleet, 1, healthy=True) == {}


def test_a_check_that_connects_to_itself_has_found_nobody(fleet: Fleet) -> None:
    """The kernel may choose the service's own port for the check, and then connects it to it."""
    vip = VIPS["v4"]
    host = fleet.host(1)
    host.sysctl("net.ipv4.ip_local_port_range", f"{PORT} {PORT}")
    (tcp,) = (s for s in services() if s.vip == vip and s.port == PORT)
    once = replace(tcp, check=replace(tcp.check, rise=1, fall=1))
    fleet.publish(cluster(1, STATES, [once]))
    fleet.publish(table(1, [1, 0]))
    fleet.up(1)
    wait_until(lambda: verdicts(fleet, 1), "a verdict", START_SECONDS)
    (verdict,) = verdicts(fleet, 1).values()
    assert verdict == ServiceHealth(False, "the check connected to itself: nothing listens")
