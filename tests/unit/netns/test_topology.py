"""A topology is consistent, or it is refused with one line."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

import pytest

from lb import abi
from netns.brigade import (
    ENCAPSULATION_BYTES,
    brigade,
    client_address,
    dip,
    router_address,
    server_address6,
)
from netns.errors import NetworkError
from netns.topology import End, Hop, HostSpec, Link, Route, Topology

VIP = IPv4Address("192.0.2.10")

TWO_IP = IPv4Address("10.0.0.2")
ONE = End("one", "eth0", IPv4Interface("10.0.0.1/30"))
TWO = End("two", "eth0", IPv4Interface("10.0.0.2/30"))
PAIR = Topology((HostSpec("one"), HostSpec("two")), (Link(ONE, TWO),))
THERE = IPv4Network("192.0.2.10/32")


def test_two_hosts_and_a_link_fit() -> None:
    PAIR.check()
    assert list(PAIR.ends_of("two")) == [TWO]


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        (replace(PAIR, hosts=(*PAIR.hosts, HostSpec("one"))), "host 'one' exists twice"),
        (replace(PAIR, hosts=PAIR.hosts[:1]), "no host is called 'two'"),
        (replace(PAIR, links=PAIR.links * 2), "interface of one 'eth0' exists twice"),
        (replace(PAIR, links=(Link(replace(ONE, interface="e" * 16), TWO),)), "1 to 15"),
        (replace(PAIR, routes=(Route("one", THERE, ()),)), "has no next hop"),
        (
            replace(PAIR, routes=(Route("one", THERE, (Hop(IPv4Address("10.9.9.9"), "eth0"),)),)),
            "cannot reach gateway 10.9.9.9",
        ),
        (
            replace(PAIR, routes=(Route("one", THERE, (Hop(TWO_IP, "eth1"),)),)),
            "no interface 'eth1'",
        ),
        (replace(PAIR, routes=(Route("six", THERE, (Hop(TWO_IP, "eth0"),)),)), "called 'six'"),
    ],
)
def test_what_does_not_fit_is_refused(topology: Topology, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        topology.check()


def test_links_have_space_for_the_longest_encapsulation() -> None:
    assert ENCAPSULATION_BYTES == abi.WRAP_LEN + abi.MAX_HOPS * abi.HOP_LEN


def test_the_brigade_has_a_subnet_a_server_and_ecmp_over_all() -> None:
    topology = brigade(servers=3, clients=2, vips=[VIP])
    topology.check()
    names = [host.name for host in topology.hosts]
    assert names == [
        "router", "client1", "client2", "server1", "server2", "server3", "controller",
    ]  # fmt: skip
    (ecmp,) = [route for route in topology.routes if route.host == "router"]
    assert [hop.gateway for hop in ecmp.hops] == [dip(1), dip(2), dip(3)]
    networks = [end.address.network for end in topology.ends_of("router") if end.address]
    assert len(set(networks)) == len(networks) == 6
    assert topology.end("client2", "eth0").address == IPv4Interface(f"{client_address(2)}/30")
    assert topology.end("router", "server2").address == IPv4Interface(f"{router_address(2)}/30")


def test_server_links_have_space_for_the_encapsulation_and_xdp_at_the_routers_end() -> None:
    topology = brigade(servers=1, clients=1)
    server = topology.end("server1", "eth0")
    (link,) = [link for link in topology.links if server in link.ends]
    (client,) = [link for link in topology.links if "client1" in {end.host for end in link.ends}]
    assert link.mtu == client.mtu + 48
    assert server.originates
    assert not server.xdp_pass
    router = topology.end("router", "server1")
    assert router.xdp_pass
    assert router.follow_carrier


def test_a_dual_stack_brigade_routes_both_families_to_the_same_servers() -> None:
    prefix = IPv6Network("2001:db8:1::/64")
    topology = brigade(servers=2, vips=[VIP, prefix], dual_stack=True)
    topology.check()
    old, new = (route for route in topology.routes if route.host == "router")
    assert [hop.gateway for hop in old.hops] == [dip(1), dip(2)]
    assert (new.destination, [hop.interface for hop in new.hops]) == (
        prefix,
        [hop.interface for hop in old.hops],
    )
    assert [hop.gateway for hop in new.hops] == [server_address6(1), server_address6(2)]
    networks = [a.network for end in topology.ends_of("router") for a in end.addresses]
    assert len(set(networks)) == len(networks) == 8
    defaults = [r.destination.version for r in topology.routes if r.host == "client1"]
    assert defaults == [4, 6]


def test_without_dual_stack_no_host_has_ipv6() -> None:
    topology = brigade(servers=1)
    assert {end.address6 for link in topology.links for end in link.ends} == {None}
    assert all(host.sysctls["net.ipv6.conf.all.disable_ipv6"] == "1" for host in topology.hosts)
