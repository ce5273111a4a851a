"""What a VIP prefix must not cover: other interfaces' addresses, gateways, whole subnets.

All of a prefix that is put up is delivered on this server, before any other route is asked: the
server would be cut off from its gateway, from its neighbours and from whoever manages it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from controlplane.domain.objects import Vip, is_host, vip_text
from controlplane.domain.vips import VipPrefixes
from lb.agent.netlink.links import LOOPBACK_INDEX, link_names, read_addresses
from lb.agent.netlink.messages import FAMILY, attributes
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.netlink.routes import (
    RT_TABLE_MAIN,
    RTA_DST,
    RTMSG,
    RTN_UNICAST,
    is_mirrored,
    next_hops,
    read_table,
)


@dataclass(frozen=True)
class Needed:
    """An address or a subnet that this server needs as it is; ``text`` names it to people."""

    network: Vip
    text: str


def needed_networks(netlink: RouteSocket) -> list[Needed]:
    """Return addresses of interfaces, and gateways and subnets of main, without those of ``lo``.

    Raises:
        OSError: the kernel does not let us read.

    """
    names = {i: name for i, name in link_names(netlink).items() if i != LOOPBACK_INDEX}
    found = [*_addresses(netlink, names), *_of_routes(netlink, names)]
    return list(dict.fromkeys(found))


def conflicting(vips: Iterable[Vip], needed: Iterable[Needed]) -> dict[Vip, str]:
    """Return the prefixes among VIPs that cover a needed network, with a line for each.

    An address that is a VIP itself, on whatever interface, does not count.
    """
    chosen = frozenset(vips)
    prefixes = VipPrefixes(vip for vip in chosen if not is_host(vip))
    lines: dict[Vip, str] = {}
    for one in needed:
        if is_host(one.network) and one.network in chosen:
            continue
        for vip in prefixes.covering(one.network):
            lines.setdefault(vip, f"VIP {vip_text(vip)} covers {one.text}: not put up")
    return lines


def find_conflicts(
    netlink: RouteSocket, wanted: Iterable[Vip], others: frozenset[Vip]
) -> dict[Vip, str]:
    """Return the prefixes that must not be put up here, with a line for each.

    ``others`` are local already, added by someone else: they are never touched.
    """
    if all(is_host(vip) or vip in others for vip in wanted):
        return {}
    lines = conflicting(wanted, needed_networks(netlink))
    return {vip: line for vip, line in lines.items() if vip not in others}


def _addresses(netlink: RouteSocket, names: Mapping[int, str]) -> Iterator[Needed]:
    for index, address in read_addresses(netlink):
        if index in names:
            yield Needed(ip_network(address), f"{address} of {names[index]}")


def _of_routes(netlink: RouteSocket, names: Mapping[int, str]) -> Iterator[Needed]:
    bodies = (b for family in FAMILY.values() for b in read_table(netlink, family, RT_TABLE_MAIN))
    for body in bodies:
        if body[7] != RTN_UNICAST or not is_mirrored(body):
            continue
        for index, gateway in next_hops(body):
            if index not in names:
                continue
            if gateway is not None:
                yield Needed(ip_network(gateway), f"the gateway {ip_address(gateway)}")
                continue
            destination = dict(attributes(body, RTMSG.size)).get(RTA_DST)
            if destination is not None:
                subnet = ip_network((destination, body[1]))
                yield Needed(subnet, f"{vip_text(subnet)}, the link of {names[index]}")
