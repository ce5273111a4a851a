"""A server's link made of two network cards that a cable joins outside, instead of a veth pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pyroute2 import IPRoute

from netns.brigade import server_name
from netns.build import build_route, index_of
from netns.host import Host
from netns.network import Network
from netns.offload import switch_off_sending_offloads
from netns.topology import End, Link, Topology


def _link_of(topology: Topology, number: int) -> Link:
    return next(link for link in topology.links if link.b.host == server_name(number))


def without_link(topology: Topology, number: int) -> Topology:
    """Return the network without a server's link and the routes that lead through it."""
    gone = _link_of(topology, number)
    return replace(
        topology,
        links=tuple(link for link in topology.links if link is not gone),
        routes=tuple(route for route in topology.routes if route.host != gone.b.host),
    )


def plug(network: Network, topology: Topology, number: int, cards: Sequence[str]) -> None:
    """Give the router and a server the two cards, set up as the topology has their link."""
    link = _link_of(topology, number)
    for card, end in zip(cards, link.ends, strict=True):
        host = network[end.host]
        _move(card, end, host)
        if end.originates:
            host.call(switch_off_sending_offloads, end.interface)
        host.run(["ip", "link", "set", end.interface, "mtu", str(link.mtu), "up"])
        for address in end.addresses:
            host.run(["ip", "address", "add", str(address), "dev", end.interface])
    for route in topology.routes:
        if route.host == link.b.host:
            build_route(route, network[route.host])


def _move(card: str, end: End, host: Host) -> None:
    """Move a card from where this program runs into a host, under the name it has there."""
    with IPRoute() as netlink:
        index = index_of(netlink, card)
        netlink.link("set", index=index, state="down")
        netlink.link("set", index=index, ifname=f"moving{index}")
        netlink.link("set", index=index, net_ns_fd=host.descriptor)
    host.run(["ip", "link", "set", f"moving{index}", "name", end.interface])
