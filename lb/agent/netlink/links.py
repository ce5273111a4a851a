"""Interfaces and their addresses, read from the kernel."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from lb.agent.netlink.messages import FAMILY, NUMBER, attributes
from lb.agent.netlink.route_socket import NetlinkError, RouteSocket

RTM_GETLINK, RTM_GETADDR = 18, 22
IFINFOMSG = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
IFADDRMSG = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, interface."""
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO, IFLA_STATS64 = 1, 3, 4, 5, 18, 23
SENT = struct.Struct("=8xQ")
"""tx_packets in struct rtnl_link_stats64."""
IFLA_INFO_KIND = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFF_UP = 0x1
IFF_LOWER_UP = 1 << 16
"""netdevice(7): there is a carrier."""
LOOPBACK_INDEX = 1
ARPHRD_ETHER = 1
"""linux/if_arp.h"""


@dataclass(frozen=True)
class LinkInfo:
    """An interface as it is now. ``mac`` is empty if it does not have one."""

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool
    addresses: frozenset[IPv4Address]
    carrier: bool = True


def get_link(netlink: RouteSocket, index: int) -> bytes:
    """Return the message of an interface."""
    return netlink.get(RTM_GETLINK, IFINFOMSG.pack(0, 0, index, 0, 0))


def packets_sent(netlink: RouteSocket, index: int) -> int:
    """Return how many packets an interface has sent."""
    found = dict(attributes(get_link(netlink, index), IFINFOMSG.size))
    return int(SENT.unpack_from(found[IFLA_STATS64])[0])


def find_link(netlink: RouteSocket, name: str) -> LinkInfo | None:
    """Return the interface of this name, ``None`` if there is none."""
    index = next((i for i, found in link_names(netlink).items() if found == name), None)
    try:
        return None if index is None else read_link(netlink, index)
    except NetlinkError as error:
        if error.errno != errno.ENODEV:  # it went since
            raise
        return None


def is_up(netlink: RouteSocket, index: int) -> bool:
    """Return whether an interface is up."""
    return bool(IFINFOMSG.unpack_from(get_link(netlink, index))[3] & IFF_UP)


def read_link(netlink: RouteSocket, index: int) -> LinkInfo:
    """Return the interface of this index."""
    body = get_link(netlink, index)
    flags = IFINFOMSG.unpack_from(body)[3]
    found = dict(attributes(body, IFINFOMSG.size))
    addresses = read_addresses(netlink, socket.AF_INET, index)
    return LinkInfo(
        index=index,
        name=_text(found[IFLA_IFNAME]),
        mac=found.get(IFLA_ADDRESS, b""),
        mtu=NUMBER.unpack(found[IFLA_MTU])[0],
        up=bool(flags & IFF_UP),
        addresses=frozenset(a for i, a in addresses if i == index and isinstance(a, IPv4Address)),
        carrier=bool(flags & IFF_LOWER_UP),
    )


def read_addresses(
    netlink: RouteSocket, family: int = socket.AF_UNSPEC, index: int = 0
) -> Iterator[tuple[int, IPv4Address | IPv6Address]]:
    """Yield (index of the interface, address) of all interfaces, or of one."""
    for body in netlink.dump(RTM_GETADDR, IFADDRMSG.pack(family, 0, 0, 0, index)):
        family_of, _, _, _, found_index = IFADDRMSG.unpack_from(body)
        found = dict(attributes(body, IFADDRMSG.size))
        packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS))
        if family_of in FAMILY.values() and packed is not None:
            yield found_index, ip_address(packed)


def _all_links(netlink: RouteSocket) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield (index, attributes) of each interface."""
    for body in netlink.dump(RTM_GETLINK, bytes(IFINFOMSG.size)):
        yield IFINFOMSG.unpack_from(body)[2], dict(attributes(body, IFINFOMSG.size))


def link_mtus(netlink: RouteSocket) -> dict[int, int]:
    """Return the MTU of each interface by index."""
    links = _all_links(netlink)
    return {index: NUMBER.unpack(found[IFLA_MTU])[0] for index, found in links}


def link_names(netlink: RouteSocket) -> dict[int, str]:
    """Return the name of each interface by index."""
    return {index: _text(found.get(IFLA_IFNAME, b"")) for index, found in _all_links(netlink)}


def link_indices(netlink: RouteSocket) -> dict[str, int]:
    """Return the index of each interface by name."""
    return {name: index for index, name in link_names(netlink).items()}


def ethernet_names(netlink: RouteSocket) -> dict[int, str]:
    """Return the name of each interface whose frames begin with an Ethernet header, by index."""
    bodies = netlink.dump(RTM_GETLINK, bytes(IFINFOMSG.size))
    found = ((IFINFOMSG.unpack_from(b), dict(attributes(b, IFINFOMSG.size))) for b in bodies)
    return {
        header[2]: _text(of.get(IFLA_IFNAME, b""))
        for header, of in found
        if header[1] == ARPHRD_ETHER
    }


def has_vlans(netlink: RouteSocket, index: int) -> bool:
    """Whether there are VLAN devices on an interface."""
    return any(
        found.get(IFLA_LINK) == NUMBER.pack(index)
        and dict(attributes(found.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND) == b"vlan\0"
        for _, found in _all_links(netlink)
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
