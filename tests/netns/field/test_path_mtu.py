"""A path that is narrower than the interface, and one whose echo replies are filtered."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network

import pytest

from controlplane.domain.objects import TCP, UDP, PathReport, ServerState, Service
from netns import brigade
from netns.build import build_route
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import POOL, VIP, Fleet, cluster, table
from tests.netns.talk import PMTUDISC_DO, Place, TcpClient, UdpClient, serve_tcp, serve_udp

WIDE, NARROW = 1600, 1500
OVERHEAD = 40
"""Of the encapsulation at depth 2."""
UDP_PORT, TCP_PORT = 7000, 8000
SERVICES = (
    Service("udp", IPv4Network(VIP), UDP, UDP_PORT, POOL),
    Service("tcp", IPv4Network(VIP), TCP, TCP_PORT, POOL),
)
FOUND_SECONDS = 15.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two servers; all packets enter by server 1 and belong to server 2."""
    topology = brigade.brigade(servers=2, vips=[VIP], server_mtu=WIDE)
    with Network(topology) as network:
        made = Fleet(network)
        made.publish(cluster(1, [ServerState.ACTIVE] * 2, SERVICES))
        made.publish(table(1, [2, 0]))
        for number in (1, 2):
            host = made.host(number)
            host.sysctl("net.ipv4.ip_nonlocal_bind", "1")
            serve_udp(host, UDP_PORT, [VIP])
            serve_tcp(host, [TCP_PORT])
            made.up(number)
        for number in (1, 2):
            wait_until(partial(made.ready, number), "ready", 60.0)
        build_route(brigade.vip_route(VIP, [1]), network[brigade.ROUTER])
        yield made


def set_mtu(fleet: Fleet, number: int, mtu: int) -> None:
    """Change a server's link, at both ends."""
    router, name = fleet.network[brigade.ROUTER], brigade.server_name(number)
    ends = (fleet.host(number), brigade.INTERFACE), (router, name)
    for host, interface in ends:
        host.run(["ip", "link", "set", "dev", interface, "mtu", str(mtu)])


def trouble(fleet: Fleet, number: int, topic: str) -> str:
    troubles: dict[str, str] = fleet.status(number)["troubles"]
    return troubles.get(topic, "")


def test_a_narrower_path_is_found_and_used(fleet: Fleet) -> None:
    """UDP of 1,472 bytes vanished without a trace; now its sender learns the right MTU."""
    client = fleet.network[brigade.client_name(1)]
    largest = brigade.CLIENT_MTU - 28
    with UdpClient(client, Place(VIP, UDP_PORT)) as udp:
        assert udp.ask(largest) == "server2", "it fits a link of 1600 bytes"
    set_mtu(fleet, 2, NARROW)
    wait_until(lambda: "server2" in trouble(fleet, 1, "path_mtu"), "it is found", FOUND_SECONDS)
    assert f"MTU of {NARROW}" in trouble(fleet, 1, "path_mtu")
    with UdpClient(client, Place(VIP, UDP_PORT)) as udp:
        udp.discover(PMTUDISC_DO)
        udp.sock.send(b"x" * largest)
        wait_until(lambda: udp.path_mtu == NARROW - OVERHEAD, "the client knows the MTU", 5.0)
        assert udp.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE
        assert udp.ask(largest - OVERHEAD) == "server2", "what fits arrives"


def test_and_the_mss_of_new_connections_fits_it(fleet: Fleet) -> None:
    client = fleet.network[brigade.client_name(1)]

    def segment() -> int:
        with TcpClient(client, Place(VIP, TCP_PORT)) as tcp:
            assert tcp.upload(100_000) == "server2"
            return tcp.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    wait_until(lambda: segment() <= NARROW - OVERHEAD - 40 - 12, "the MSS is lowered", 5.0)


@pytest.mark.timeout(180)
def test_it_rises_when_the_path_is_wide_again(fleet: Fleet) -> None:
    client = fleet.network[brigade.client_name(1)]
    set_mtu(fleet, 2, WIDE)
    wait_until(lambda: not trouble(fleet, 1, "path_mtu"), "it is forgotten", 60.0)
    client.run(["ip", "route", "flush", "cache"])
    with UdpClient(client, Place(VIP, UDP_PORT)) as udp:
        assert udp.ask(brigade.CLIENT_MTU - 28) == "server2"


def test_a_server_that_ignores_echo_is_unknown_and_named_and_stays(fleet: Fleet) -> None:
    """A fleet whose hosts filter ICMP must not be taken apart."""
    fleet.host(2).sysctl("net.ipv4.icmp_echo_ignore_all", "1")
    agent = next(p for p in fleet.host(1).processes if p.name.startswith("agent"))
    agent.kill()
    again = fleet.up(1)
    wait_until(lambda: fleet.status(1)["pid"] == again.pid, "a new agent", 60.0)
    wait_until(
        lambda: "to server2 cannot be tested" in trouble(fleet, 1, "paths_unknown"),
        "it is named",
        FOUND_SECONDS,
    )
    assert "allow ICMP echo" in trouble(fleet, 1, "paths_unknown")
    unknown = PathReport(1, (), ("server2",))
    wait_until(lambda: fleet.store.reports()["server1"].paths == unknown, "it is reported")
    fleet.host(2).sysctl("net.ipv4.icmp_echo_ignore_all", "0")
    wait_until(lambda: not trouble(fleet, 1, "paths_unknown"), "it answers", FOUND_SECONDS)
