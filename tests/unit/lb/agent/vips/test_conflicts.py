"""Which VIP prefixes would cut a server off from its network."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from lb.agent.netlink.links import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG
from lb.agent.netlink.messages import NUMBER, attribute
from lb.agent.netlink.route_socket import Request, RouteSocket
from lb.agent.netlink.routes import (
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_VIA,
    RTMSG,
    RTNEXTHOP,
)
from lb.agent.vips.conflicts import conflicting, needed_networks

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
LINKS = {1: "lo", 3: "eth0", 4: "eth1"}


class FakeLinks(RouteSocket):
    """A kernel with interfaces, addresses on them (index, address) and a main table."""

    def __init__(self) -> None:
        self.addresses: list[tuple[int, str]] = []
        self.routes: list[bytes] = []

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        if kind == 18:
            return [
                struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(3, name.encode() + b"\0")
                for index, name in LINKS.items()
            ]
        if kind == 22:
            return [address_message(index, text) for index, text in self.addresses]
        return [route for route in self.routes if route[0] == body[0]]

    def change(self, requests: Sequence[Request]) -> list[int]:
        raise AssertionError(requests)


def address_message(index: int, text: str) -> bytes:
    """An address as the kernel reports it; IPv6 ones have no ``IFA_LOCAL``, unless with a peer."""
    address = ip_address(text)
    if address.version == 6:
        return IFADDRMSG.pack(V6, 64, 0, 0, index) + attribute(IFA_ADDRESS, address.packed)
    body = IFADDRMSG.pack(V4, 24, 0, 0, index)
    body += attribute(IFA_ADDRESS, ip_address("203.0.113.77").packed)  # the peer's
    return body + attribute(IFA_LOCAL, address.packed)


def route(to: str, *more: bytes, kind: int = 1) -> bytes:
    """A route of main to ``to``; none for the default."""
    network = ip_network(to)
    family = V4 if network.version == 4 else V6
    body = RTMSG.pack(family, network.prefixlen, 0, 0, RT_TABLE_MAIN, 2, 0, kind, 0)
    if network.prefixlen:
        body += attribute(RTA_DST, network.network_address.packed)
    return body + b"".join(more)


def by(index: int) -> bytes:
    return attribute(RTA_OIF, NUMBER.pack(index))


def through(text: str) -> bytes:
    return attribute(RTA_GATEWAY, ip_address(text).packed)


def hops(*gateways: str) -> bytes:
    parts = (RTNEXTHOP.pack(RTNEXTHOP.size + 8, 0, 0, 3) + through(gateway) for gateway in gateways)
    return attribute(RTA_MULTIPATH, b"".join(parts))


@pytest.mark.parametrize(
    ("vip", "thing"),
    [
        ("2001:db8:1::/64", "2001:db8:1::5 of eth0"),
        ("2001:db8::/32", "2001:db8:1::5 of eth0"),
        ("10.7.0.0/16", "10.7.0.1 of eth1"),
        ("10.0.0.252/30", "the gateway 10.0.0.254"),
        ("2001:db8:1::fff0/124", "the gateway 2001:db8:1::ffff"),
        ("10.3.0.0/16", "the gateway 10.3.0.1"),
        ("10.4.0.0/16", "the gateway 10.4.0.1"),
        ("10.5.0.0/16", "the gateway 10.5.0.1"),
        ("198.51.100.0/24", "198.51.100.7, the link of eth1"),
        ("2001:db8:5::/48", "2001:db8:5:5::/64, the link of eth0"),
    ],
)
def test_a_prefix_may_not_cover_what_this_server_needs(vip: str, thing: str) -> None:
    assert conflicting([ip_network(vip)], needed_networks(everything())) == {
        ip_network(vip): f"VIP {vip} covers {thing}: not put up"
    }


@pytest.mark.parametrize(
    "vip",
    [
        *("10.0.0.128/26", "2001:db8:1:0:7::/80"),  # a part of a link that the router has a way to
        *("203.0.113.0/24", "2001:db8:9::/64"),  # a peer's; behind a gateway
        *("192.0.2.0/24", "2001:db8:2::/64"),  # on lo
        *("198.18.0.0/24", "2001:db8:6::/48"),  # unreachable; of no other table than main
        *("10.0.0.1/32", "10.0.0.254/32", "2001:db8:1::5/128"),  # single ones are no prefixes
    ],
)
def test_a_prefix_of_its_own_is_fit(vip: str) -> None:
    assert conflicting([ip_network(vip)], needed_networks(everything())) == {}


def everything() -> FakeLinks:
    found = FakeLinks()
    found.addresses = [
        *((1, "127.0.0.1"), (1, "192.0.2.10"), (1, "2001:db8:2::1")),
        *((3, "10.0.0.1"), (3, "2001:db8:1::5"), (4, "10.7.0.1")),
    ]
    found.routes = [
        route("0.0.0.0/0", by(3), through("10.0.0.254")),
        route("::/0", by(3), through("2001:db8:1::ffff")),
        route("10.9.0.0/16", hops("10.3.0.1", "10.4.0.1")),
        route("10.10.0.0/16", attribute(RTA_NH_ID, NUMBER.pack(7)), by(3), through("10.5.0.1")),
        route(
            "10.11.0.0/16", by(3), attribute(RTA_VIA, bytes([V6, 0]) + ip_address("fe80::1").packed)
        ),
        route("10.0.0.0/24", by(3)),
        route("198.51.100.7/32", by(4)),
        route("2001:db8:1::/64", by(3)),
        route("2001:db8:5:5::/64", by(3)),
        route("2001:db8:9::/64", by(3), through("fe80::1")),
        route("192.0.2.0/24", by(1)),
        route("198.18.0.0/24", by(3), kind=7),
        route("2001:db8:6:6::/64", by(3)).replace(bytes([RT_TABLE_MAIN, 2]), bytes([77, 2])),
    ]
    return found


def test_an_address_that_is_a_vip_itself_does_not_count() -> None:
    """As where VIPs are on an interface of their own."""
    kernel = FakeLinks()
    kernel.addresses = [(4, "192.0.2.10")]
    prefix, single = ip_network("192.0.2.0/24"), ip_network("192.0.2.10")
    assert conflicting([prefix, single], needed_networks(kernel)) == {}
    assert set(conflicting([prefix], needed_networks(kernel))) == {prefix}


def test_each_prefix_that_covers_something_is_left_out() -> None:
    kernel = FakeLinks()
    kernel.addresses = [(3, "192.0.2.10"), (3, "192.0.2.11")]
    nested = [ip_network("192.0.2.0/24"), ip_network("192.0.0.0/16"), ip_network("192.0.3.0/24")]
    assert set(conflicting(nested, needed_networks(kernel))) == {*nested[:2]}
