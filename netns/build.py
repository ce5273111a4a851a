"""Creates the links and routes of a topology, by netlink."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from netns.bpf import load_pass_all
from netns.errors import NetworkError
from netns.host import Host
from netns.offload import switch_off_sending_offloads
from netns.topology import End, Hop, Link, Route

NUD_PERMANENT = 0x80
XDP_NATIVE = "xdp"
FAMILIES = MappingProxyType({4: socket.AF_INET, 6: socket.AF_INET6})


def build_link(link: Link, hosts: Mapping[str, Host]) -> None:
    """Create a veth pair between two hosts, configure both ends, and bring them up."""
    first, second = hosts[link.a.host], hosts[link.b.host]
    first.netlink(
        lambda netlink: netlink.link(
            "add",
            ifname=link.a.interface,
            kind="veth",
            peer={"ifname": link.b.interface, "net_ns_fd": second.descriptor},
        )
    )
    # This must be before any XDP program: with one on the peer, the kernel fixes segmentation here
    # to "off" and refuses to change it.
    for end in link.ends:
        if end.originates:
            hosts[end.host].call(switch_off_sending_offloads, end.interface)
    for end in link.ends:
        hosts[end.host].netlink(partial(_set_up, end=end, mtu=link.mtu))
        if end.follow_carrier:
            # This must be set on the interface itself; `conf.all` has no effect.
            for family in ("ipv4", "ipv6") if end.address6 else ("ipv4",):
                name = f"net.{family}.conf.{end.interface}.ignore_routes_with_linkdown"
                hosts[end.host].sysctl(name, "1")
    if link.known_neighbours:
        for end, other in (link.ends, link.ends[::-1]):
            _add_neighbours(
                hosts[end.host], end, mac_address(hosts[other.host], other.interface), other
            )


def _set_up(netlink: Any, end: End, mtu: int) -> None:
    index = index_of(netlink, end.interface)
    netlink.link("set", index=index, mtu=mtu)
    for address in end.addresses:
        netlink.addr(
            "add",
            index=index,
            family=FAMILIES[address.version],
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
        )
    if end.xdp_pass:
        program = load_pass_all()
        try:
            netlink.link("set", index=index, xdp_fd=program)
        finally:
            os.close(program)
        (link,) = netlink.get_links(index)
        mode = link.get_attr("IFLA_XDP").get_attr("IFLA_XDP_ATTACHED")
        if mode != XDP_NATIVE:
            raise NetworkError(f"{end.interface} of {end.host}: XDP is {mode}, not native")
    netlink.link("set", index=index, state="up")


def _add_neighbours(host: Host, end: End, mac: str, other: End) -> None:
    def add(netlink: Any) -> None:
        for address in other.addresses:
            netlink.neigh(
                "replace",
                family=FAMILIES[address.version],
                dst=str(address.ip),
                lladdr=mac,
                state=NUD_PERMANENT,
                ifindex=index_of(netlink, end.interface),
            )

    host.netlink(add)


def index_of(netlink: Any, interface: str) -> int:
    """Return an interface's index in the namespace of this netlink socket."""
    return int(netlink.link_lookup(ifname=interface)[0])


def mac_address(host: Host, interface: str) -> str:
    """Return the MAC address of a host's interface."""

    def read(netlink: Any) -> str:
        (link,) = netlink.get_links(index_of(netlink, interface))
        return str(link.get_attr("IFLA_ADDRESS"))

    return host.netlink(read)


def set_link(host: Host, interface: str, *, up: bool) -> None:
    """Bring an interface up or down; when it is down, its peer has no carrier."""
    state = "up" if up else "down"
    host.netlink(
        lambda netlink: netlink.link("set", index=index_of(netlink, interface), state=state)
    )


def build_route(route: Route, host: Host) -> None:
    """Create a route, or replace the one with the same destination."""
    host.netlink(lambda netlink: replace_route(netlink, route))


def replace_route(netlink: Any, route: Route) -> None:
    """Create or replace a route through an open netlink socket."""
    hops = [_hop(netlink, hop) for hop in route.hops]
    destination = {"family": FAMILIES[route.destination.version], "dst": str(route.destination)}
    if len(hops) == 1:
        netlink.route("replace", **destination, **hops[0])
        return
    netlink.route("replace", **destination, multipath=hops)


def _hop(netlink: Any, hop: Hop) -> dict[str, object]:
    made: dict[str, object] = {
        "gateway": str(hop.gateway),
        "oif": index_of(netlink, hop.interface),
    }
    if hop.weight != 1:
        # rtnexthop.rtnh_hops is the weight minus one.
        made["hops"] = hop.weight - 1
    return made


def remove_links(netlink: Any) -> None:
    """Delete every veth interface of a namespace, with the programs attached to it."""
    for link in netlink.get_links():
        information = link.get_attr("IFLA_LINKINFO")
        if information is not None and information.get_attr("IFLA_INFO_KIND") == "veth":
            netlink.link("del", index=link["index"])
