"""Connections on VIPs are counted; listeners, other addresses and our own checks are not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from controlplane.domain.objects import TCP, UDP, Service, Vip
from lb.agent.report.connections import AddressMatcher, FlowServices, count_connections

ADDRESS = "127.0.0.77"
VIP = IPv4Network(ADDRESS)
LOOPBACK6 = IPv6Network("::1/128")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def connect(stack: ExitStack, listener: socket.socket, source: str, address: str = ADDRESS) -> None:
    port = listener.getsockname()[1]
    caller = socket.create_connection((address, port), 2, source_address=(source, 0))
    stack.enter_context(caller)
    stack.enter_context(listener.accept()[0])


def test_only_connections_from_elsewhere_to_a_vip_count(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server((ADDRESS, 0)))
    assert count_connections([VIP]) == 0
    connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 1
    connect(stack, listener, ADDRESS)
    assert count_connections([VIP]) == 1, "a server's own check is no client"
    assert count_connections([IPv4Network("127.0.0.78/32")]) == 0
    assert count_connections([]) == 0


@pytest.mark.parametrize(
    ("prefix", "count"),
    [("127.0.0.76/30", 1), ("127.0.0.64/26", 1), ("127.0.0.80/28", 0), ("127.0.0.77/32", 1)],
)
def test_prefixes_count_what_is_in_them(stack: ExitStack, prefix: str, count: int) -> None:
    listener = stack.enter_context(socket.create_server((ADDRESS, 0)))
    connect(stack, listener, "127.0.0.1")
    assert count_connections([ip_network(prefix), LOOPBACK6]) == count


def test_dual_stack_listeners_count_too(stack: ExitStack) -> None:
    listener = stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 1
    assert count_connections([IPv4Network("127.0.0.64/27")]) == 1
    mapped = IPv6Network("::ffff:0:0/96")
    assert count_connections([mapped]) == 0, "an IPv4 connection is of no IPv6 VIP"


def test_many_sockets_take_several_messages(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server((ADDRESS, 0), backlog=500))
    for _ in range(400):
        connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 400


def udp(vip: Vip, port: int | None, *, stateless: bool = False) -> Service:
    return Service("udp", vip, UDP, port, "web", stateless)


def udp_socket(stack: ExitStack, address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    return made


def test_udp_flows_count_where_services_keep_them(stack: ExitStack) -> None:
    """Connected sockets: what the redirector, too, takes for a flow of this server."""
    flow = udp_socket(stack, ADDRESS)
    port = flow.getsockname()[1]
    services = [udp(VIP, port)]
    assert count_connections([VIP], services) == 0, "unconnected: no flow"
    flow.connect(("127.0.0.1", 9))
    assert count_connections([VIP], services) == 1
    assert count_connections([VIP]) == 0, "no UDP service"
    assert count_connections([VIP], [udp(VIP, port, stateless=True)]) == 0
    assert count_connections([VIP], [udp(VIP, port + 1)]) == 0, "another port"
    assert count_connections([VIP], [udp(VIP, None)]) == 1
    assert count_connections([IPv4Network("127.0.0.78/32")], services) == 0, "no VIP"
    own = udp_socket(stack, ADDRESS, port)
    own.connect((ADDRESS, 9))
    assert count_connections([VIP], services) == 1, "a server's own check is no client"


def test_udp_flows_of_dual_stack_sockets_count_too(stack: ExitStack) -> None:
    flow = udp_socket(stack, f"::ffff:{ADDRESS}")
    flow.connect(("::ffff:127.0.0.1", 9))
    assert count_connections([VIP], [udp(VIP, flow.getsockname()[1])]) == 1


@pytest.mark.parametrize(
    ("address", "port", "kept"),
    [
        *(("192.0.2.10", 53, False), ("192.0.2.10", 54, True), ("192.0.2.11", 53, True)),
        *(("192.0.2.11", 54, False), ("192.0.3.1", 53, False), ("2001:db8::1", 53, True)),
    ],
)
def test_the_longest_prefix_decides_and_of_one_prefix_the_port(
    address: str, port: int, *, kept: bool
) -> None:
    prefix = IPv4Network("192.0.2.0/24")
    flows = FlowServices(
        [
            udp(IPv4Network("192.0.2.10/32"), 53, stateless=True),
            udp(IPv4Network("192.0.2.10/32"), None),
            udp(prefix, None, stateless=True),
            udp(prefix, 53),
            udp(IPv6Network("2001:db8::/32"), 53),
            Service("tcp", IPv4Network("192.0.3.0/24"), TCP, 53, "web"),
        ]
    )
    assert flows.keeps(ip_address(address).packed, port) is kept


VIPS: tuple[Vip, ...] = (
    IPv4Network("192.0.2.10/32"),
    IPv4Network("198.51.100.0/24"),
    IPv6Network("2001:db8::10/128"),
    IPv6Network("2001:db8:1::/48"),
)


@pytest.mark.parametrize(
    ("address", "is_vip"),
    [
        *(("192.0.2.10", True), ("192.0.2.11", False), ("198.51.100.255", True)),
        *(("198.51.101.0", False), ("2001:db8::10", True), ("2001:db8::11", False)),
        *(("2001:db8:1:ffff::9", True), ("2001:db8:2::", False), ("::192.0.2.10", False)),
    ],
)
def test_an_address_is_of_a_vip_by_its_own_version_and_prefix(address: str, is_vip: bool) -> None:
    assert (ip_address(address).packed in AddressMatcher(VIPS)) is is_vip
