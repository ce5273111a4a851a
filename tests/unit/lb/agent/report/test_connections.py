"""Connections on VIPs are counted; listeners, other addresses and our own checks are not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from controlplane.domain.objects import Vip
from lb.agent.report.connections import AddressMatcher, count_connections

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
