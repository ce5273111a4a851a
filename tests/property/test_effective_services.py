"""What a VIP's row holds is what the page's rule finds by looking at all services."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.service_rows import effective_services
from lb import abi
from lb.dataplane.lookup.vips import Trie
from lb.dataplane.objects import ServiceEntry

BASE = int(IPv4Address("192.0.0.0"))
LENGTHS = (8, 15, 16, 20, 23, 24, 27, 31, 32)
PORTS = (None, 53, 80)


def network(offset: int, length: int) -> IPv4Network:
    return IPv4Network((BASE + offset & ~((1 << 32 - length) - 1), length))


VIPS = st.builds(network, st.integers(0, (1 << 18) - 1), st.sampled_from(LENGTHS))
SERVICES = st.lists(
    st.builds(ServiceEntry, VIPS, st.sampled_from((6, 17)), st.sampled_from(PORTS), st.just("web")),
    min_size=1,
    max_size=12,
    unique_by=lambda service: service.address,
)


def by_the_page(
    services: list[ServiceEntry], address: IPv4Address, protocol: int, port: int
) -> ServiceEntry | None:
    """docs/wire.md, section 4.1: the longest prefix, of two with the same the one with the port."""
    fitting = [
        service
        for service in services
        if address in service.vip and service.protocol == protocol and service.port in {None, port}
    ]
    return max(fitting, key=lambda s: (s.vip.prefixlen, s.port is not None), default=None)


def trie_of(services: list[ServiceEntry]) -> tuple[Trie, list[IPv4Network]]:
    vips = sorted({s.vip for s in services if isinstance(s.vip, IPv4Network)})
    trie = Trie()
    for vip in sorted(vips, key=lambda vip: vip.prefixlen):
        trie.add(vip, abi.TRIE_LEAF | vips.index(vip))
    return trie, vips


def leaf(trie: Trie, address: IPv4Address) -> int:
    """`lb_leaf4()`: three steps, whatever is there."""
    a, b, c, d = address.packed
    node = int(trie.top[a | b << 8])
    node = int(trie.nodes[node & (abi.TRIE_NODES - 1)][c])
    return int(trie.nodes[node & (abi.TRIE_NODES - 1)][d])


def addresses_near(services: list[ServiceEntry]) -> list[IPv4Address]:
    """The first and last address of each VIP and those beside them."""
    found = set()
    for service in services:
        first, last = int(service.vip.network_address), int(service.vip.broadcast_address)
        found |= {first - 1, first, last, last + 1}
    return [IPv4Address(number) for number in sorted(found)]


@given(SERVICES)
def test_an_address_leads_to_the_services_that_the_page_says(services: list[ServiceEntry]) -> None:
    effective = effective_services(services)
    trie, vips = trie_of(services)
    for address in addresses_near(services):
        found = leaf(trie, address)
        own = effective[vips[found & ~abi.TRIE_LEAF]] if found else {}
        for protocol in (6, 17):
            for port in (53, 80, 4711):
                got = own.get((protocol, port), own.get((protocol, None)))
                assert got == by_the_page(services, address, protocol, port)


@given(SERVICES)
def test_an_address_has_a_leaf_if_and_only_if_it_is_a_vip(services: list[ServiceEntry]) -> None:
    trie, _ = trie_of(services)
    for address in addresses_near(services):
        assert bool(leaf(trie, address)) == any(address in service.vip for service in services)
