"""The service of an address and port, and which addresses are this server's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

import pytest

from controlplane.domain.objects import TCP, UDP, Service, Vip
from lb.agent.report.presence.sorting import OwnAddresses, ServiceFinder
from lb.flow_hash import Flow
from lb.where import most_specific

PREFIX = IPv4Network("192.0.2.0/24")
HOST = IPv4Network("192.0.2.10/32")
SERVICES = (
    Service("a", HOST, UDP, 53, "web", stateless=True),
    Service("b", HOST, UDP, None, "web"),
    Service("c", PREFIX, UDP, None, "web", stateless=True),
    Service("d", PREFIX, UDP, 53, "web"),
    Service("e", IPv6Network("2001:db8::/32"), UDP, 53, "web"),
    Service("f", IPv4Network("192.0.3.0/24"), TCP, 53, "web", stateless=True),
    Service("g", PREFIX, TCP, 80, "web"),
    Service("h", HOST, TCP, 443, "web"),
)


@pytest.mark.parametrize("address", ["192.0.2.10", "192.0.2.11", "192.0.3.1", "2001:db8::1", "::1"])
@pytest.mark.parametrize("port", [53, 54, 80, 443])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_it_is_the_one_that_the_forwarder_finds(address: str, port: int, protocol: int) -> None:
    at = ip_address(address)
    expected = most_specific(SERVICES, Flow(at, 1, at, port, protocol))
    if expected is not None and expected.protocol == UDP and expected.stateless:
        expected = None  # such flows belong to no server
    found = ServiceFinder(SERVICES).find(protocol, at.packed, port)
    assert (SERVICES[found] if found >= 0 else None) == expected


def test_protocols_are_those_with_flows_of_a_server() -> None:
    assert ServiceFinder(SERVICES).protocols == {TCP, UDP}
    assert ServiceFinder(SERVICES[:1]).protocols == frozenset()
    assert ServiceFinder(SERVICES[5:6]).protocols == {TCP}, "TCP ignores `stateless`"


VIPS: tuple[Vip, ...] = (
    IPv4Network("192.0.2.10/32"),
    IPv4Network("198.51.100.0/24"),
    IPv6Network("2001:db8::10/128"),
    IPv6Network("2001:db8:1::/48"),
)


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        *(("192.0.2.10", True), ("192.0.2.11", False), ("198.51.100.255", True)),
        *(("198.51.101.0", False), ("2001:db8::10", True), ("2001:db8::11", False)),
        *(("2001:db8:1:ffff::9", True), ("2001:db8:2::", False), ("::192.0.2.10", False)),
        *(("10.0.0.1", True), ("10.0.0.2", False)),
    ],
)
def test_an_address_is_own_by_its_version_and_prefix(address: str, is_own: bool) -> None:
    own = OwnAddresses(VIPS, IPv4Address("10.0.0.1"))
    assert (ip_address(address).packed in own) is is_own
