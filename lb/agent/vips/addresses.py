"""VIPs as the kernel has them: local addresses, and local prefixes.

A single VIP is an address on ``lo``. A prefix is a route of the type ``local``: all its addresses
are delivered here, though no interface has one (ip-route(8)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip, is_host, vip_text
from lb.agent.netlink.links import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, LOOPBACK_INDEX
from lb.agent.netlink.messages import FAMILY, NUMBER, attribute, number
from lb.agent.netlink.route_socket import ADD, ADD_OR_REPLACE, Request, RouteSocket
from lb.agent.netlink.routes import (
    RT_SCOPE_HOST,
    RT_TABLE_LOCAL,
    RTA_DST,
    RTA_OIF,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTN_LOCAL,
    Route,
    build,
    parse,
    read_table,
)

RTM_NEWADDR, RTM_DELADDR = 20, 21
IFA_CACHEINFO, IFA_FLAGS = 6, 8
CACHEINFO = struct.Struct("=IIII")
"""struct ifa_cacheinfo: seconds preferred, seconds valid, and two that are the kernel's."""
FOREVER = 0xFFFFFFFF
IFA_F_NODAD = 0x02
IFA_F_NOPREFIXROUTE = 0x200
GONE = frozenset({0, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EACCES})
"""Results of a removal, also where an interface, or IPv6 on it, went with its addresses."""


def local_vips(netlink: RouteSocket) -> frozenset[Vip]:
    """Return all that is delivered locally: an address as a prefix of one."""
    bodies = (b for family in FAMILY.values() for b in read_table(netlink, family, RT_TABLE_LOCAL))
    routes = (parse(body) for body in bodies if body[7] == RTN_LOCAL)
    found = ((dict(route.attributes), route.dst_len) for route in routes)
    return frozenset(ip_network((known[RTA_DST], length)) for known, length in found if length)


def add_vips(netlink: RouteSocket, vips: Iterable[Vip]) -> None:
    """Have these delivered locally.

    Raises:
        BrigadeError: the kernel refuses.

    """
    for vip, code in _changed(netlink, vips, _add):
        if code not in (0, errno.EEXIST):
            raise BrigadeError(
                f"cannot add the VIP {vip_text(vip)} to lo: {os.strerror(code)}{_remedy(vip)}"
            )


def remove_vips(netlink: RouteSocket, vips: Iterable[Vip]) -> None:
    """Have these not delivered locally any more, if they were.

    Raises:
        BrigadeError: the kernel refuses.

    """
    for vip, code in _changed(netlink, vips, _remove):
        if code not in GONE:
            line = f"cannot remove the VIP {vip_text(vip)} from lo: {os.strerror(code)}"
            raise BrigadeError(line)


def _changed(
    netlink: RouteSocket, vips: Iterable[Vip], request: Callable[[Vip], Request]
) -> Iterator[tuple[Vip, int]]:
    chosen = list(vips)
    return zip(chosen, netlink.change([request(vip) for vip in chosen]), strict=True)


def _remedy(vip: Vip) -> str:
    is_ipv6 = FAMILY[vip.version] == socket.AF_INET6
    return "; is IPv6 switched off (ipv6.disable=1)?" if is_ipv6 else ""


def _add(vip: Vip) -> Request:
    if is_host(vip):
        return Request(RTM_NEWADDR, _address(vip), ADD_OR_REPLACE)
    return Request(RTM_NEWROUTE, _route(vip), ADD)


def _remove(vip: Vip) -> Request:
    if is_host(vip):
        return Request(RTM_DELADDR, _address(vip))
    return Request(RTM_DELROUTE, _route(vip))


def _address(vip: Vip) -> bytes:
    """Return the request's body. IPv6: at once usable, never preferred as a source (RFC 6724)."""
    packed = vip.network_address.packed
    body = IFADDRMSG.pack(FAMILY[vip.version], vip.prefixlen, 0, 0, LOOPBACK_INDEX)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if FAMILY[vip.version] == socket.AF_INET:
        return body
    body += number(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE)
    return body + attribute(IFA_CACHEINFO, CACHEINFO.pack(0, FOREVER, 0, 0))


def _route(vip: Vip) -> bytes:
    family = FAMILY[vip.version]
    scope = RT_SCOPE_HOST if family == socket.AF_INET else 0
    found = ((RTA_DST, vip.network_address.packed), (RTA_OIF, NUMBER.pack(LOOPBACK_INDEX)))
    route = Route(family, vip.prefixlen, 0, 0, scope, RTN_LOCAL, onlink=False, attributes=found)
    return build(route, RT_TABLE_LOCAL)
