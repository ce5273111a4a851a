"""What a VIP prefix must not have in it: other interfaces' addresses, gateways, whole subnets.

All of a prefix that is put up is delivered on this server, before any other route is asked: it
would be cut off from its gateway, from the hosts beside it and from whoever manages it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from controlplane.domain.objects import Vip, is_host, vip_text
from controlplane.domain.vips import VipPrefixes
from lb.agent.netlink.bulk import (
    FAMILY,
    LINK_INDEX_OFFSET,
    LINK_MESSAGE_BYTES,
    NUMBER,
    RTM_GETLINK,
    Netlink,
    attributes,
)
from lb.agent.netlink.links import LOOPBACK_INDEX
from lb.agent.netlink.routes import DST, MAIN, MESSAGE, UNICAST, is_mirrored, read_table, ways
from lb.agent.vips.kernel import ADDRESS_MESSAGE, IFA_ADDRESS, IFA_LOCAL

RTM_GETADDR = 22
IFLA_IFNAME = 3


@dataclass(frozen=True)
class Beside:
    """An address or a subnet that this server needs as it is; ``text`` names it to people."""

    network: Vip
    text: str


def beside(netlink: Netlink) -> list[Beside]:
    """Return addresses of interfaces, and gateways and subnets of main, but for those of ``lo``.

    Raises:
        OSError: the kernel refuses to tell.

    """
    names = _interface_names(netlink)
    found = [*_addresses(netlink, names), *_of_routes(netlink, names)]
    return list(dict.fromkeys(found))


def left_out(vips: Iterable[Vip], things: Iterable[Beside]) -> dict[Vip, str]:
    """Return the prefixes among VIPs that cover one of these things, with a line for each.

    An address that is a VIP itself, on whatever interface, does not count.
    """
    chosen = frozenset(vips)
    prefixes = VipPrefixes(vip for vip in chosen if not is_host(vip))
    lines: dict[Vip, str] = {}
    for thing in things:
        if is_host(thing.network) and thing.network in chosen:
            continue
        for vip in prefixes.covering(thing.network):
            lines.setdefault(vip, f"VIP {vip_text(vip)} covers {thing.text}: not put up")
    return lines


def _interface_names(netlink: Netlink) -> dict[int, str]:
    """Return the names of interfaces by index, without ``lo``."""
    found = {}
    for body in netlink.dump(RTM_GETLINK, bytes(LINK_MESSAGE_BYTES)):
        (index,) = NUMBER.unpack_from(body, LINK_INDEX_OFFSET)
        name = dict(attributes(body, LINK_MESSAGE_BYTES)).get(IFLA_IFNAME, b"")
        if index != LOOPBACK_INDEX:
            found[index] = name.rstrip(b"\0").decode(errors="replace")
    return found


def _addresses(netlink: Netlink, names: dict[int, str]) -> Iterator[Beside]:
    for body in netlink.dump(RTM_GETADDR, bytes(ADDRESS_MESSAGE.size)):
        family, _, _, _, index = ADDRESS_MESSAGE.unpack_from(body)
        found = dict(attributes(body, ADDRESS_MESSAGE.size))
        packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS))
        if index in names and family in FAMILY.values() and packed is not None:
            address = ip_network(packed)
            yield Beside(address, f"{vip_text(address)} of {names[index]}")


def _of_routes(netlink: Netlink, names: dict[int, str]) -> Iterator[Beside]:
    bodies = (b for family in FAMILY.values() for b in read_table(netlink, family, MAIN))
    for body in bodies:
        if body[7] != UNICAST or not is_mirrored(body):
            continue
        for index, gateway in ways(body):
            if index not in names:
                continue
            if gateway is not None:
                yield Beside(ip_network(gateway), f"the gateway {ip_address(gateway)}")
                continue
            destination = dict(attributes(body, MESSAGE.size)).get(DST)
            if destination is not None:
                subnet = ip_network((destination, body[1]))
                yield Beside(subnet, f"{vip_text(subnet)}, the link of {names[index]}")
