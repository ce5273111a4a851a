"""Routes as netlink has them (rtnetlink(7)). Pure, but for ``read_table``."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lb.agent.netlink.messages import NUMBER, attribute, attributes, number
from lb.agent.netlink.route_socket import RouteSocket

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTMSG = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RT_SCOPE_HOST = 254
OUR_PROTOCOL = 60
"""Marks what is ours: rtm_protocol, FRA_PROTOCOL. iproute2's rt_protos gives it to nobody."""
RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW = 1, 2, 6, 7, 8, 9
MIRRORED_TYPES = frozenset(
    {RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW}
)
"""All that decide where packets go."""
RTM_F_CLONED = 0x200
RTNH_F_DEAD, RTNH_F_ONLINK = 1, 4

RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 2, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_FLOW, RTA_TABLE, RTA_VIA, RTA_PREF = 9, 11, 15, 18, 20
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_TTL_PROPAGATE, RTA_NH_ID = 21, 22, 26, 30
COPIED = frozenset(
    {RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_FLOW, RTA_VIA}
    | {RTA_PREF, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_TTL_PROPAGATE, RTA_NH_ID}
)
"""Attributes that a copy has in common with its original. RTA_PREFSRC matters for this host's own
connections, where those use the copies too; replies to clients have their source already."""
OF_NEXT_HOPS = frozenset({RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_FLOW, RTA_ENCAP_TYPE, RTA_ENCAP})
RTNEXTHOP = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, weight - 1, interface."""

Attributes = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class NextHop:
    """One of several next hops. ``weight`` is one less than its share, as in the message."""

    interface: int
    onlink: bool
    weight: int
    attributes: Attributes


@dataclass(frozen=True)
class Route:
    """A route without its table and its protocol: two that do the same are equal."""

    family: int
    dst_len: int
    src_len: int
    tos: int
    scope: int
    type: int
    onlink: bool
    attributes: Attributes
    metrics: Attributes = ()
    hops: tuple[NextHop, ...] = ()

    @property
    def key(self) -> bytes:
        """What identifies a route to be replaced: destination, source, TOS and priority."""
        found = dict(self.attributes)
        return b"".join(
            (
                bytes((self.family, self.dst_len, self.src_len, self.tos)),
                *(found.get(kind, b"") for kind in (RTA_DST, RTA_SRC, RTA_PRIORITY)),
            )
        )

    @property
    def interfaces(self) -> tuple[int, ...]:
        """Indices of the outgoing interfaces."""
        here = [NUMBER.unpack(value)[0] for kind, value in self.attributes if kind == RTA_OIF]
        return (*here, *(hop.interface for hop in self.hops))

    def __str__(self) -> str:
        destination = dict(self.attributes).get(RTA_DST)
        if destination is None:
            return "default"
        return f"{socket.inet_ntop(self.family, destination)}/{self.dst_len}"


def table_of(body: bytes) -> int:
    """Return the table of a route's message."""
    table: int = body[4]
    for kind, value in attributes(body, RTMSG.size):
        if kind == RTA_TABLE:
            return int(NUMBER.unpack(value)[0])
    return table


def protocol_of(body: bytes) -> int:
    """Return who made a route: ``OUR_PROTOCOL`` for ours."""
    return body[5]


def is_mirrored(body: bytes) -> bool:
    """Whether a route of the main table needs a copy."""
    return body[7] in MIRRORED_TYPES and not RTMSG.unpack_from(body)[8] & RTM_F_CLONED


def parse(body: bytes) -> Route:
    """Read a route's message, without dead next hops and without what only the kernel reports."""
    family, dst_len, src_len, tos, _, _, scope, kind, flags = RTMSG.unpack_from(body)
    found = dict(attributes(body, RTMSG.size))
    kept = {k: v for k, v in found.items() if k in COPIED}
    hops = tuple(_next_hops(found.get(RTA_MULTIPATH, b"")))
    onlink = bool(flags & RTNH_F_ONLINK)
    if RTA_NH_ID in kept:
        kept = {k: v for k, v in kept.items() if k not in OF_NEXT_HOPS}
        hops, onlink = (), False
    elif len(hops) == 1:  # the kernel reports a route that never had more without a list
        (only,) = hops
        kept |= {RTA_OIF: NUMBER.pack(only.interface), **dict(only.attributes)}
        hops, onlink = (), only.onlink
    return Route(
        family,
        dst_len,
        src_len,
        tos,
        scope,
        kind,
        onlink,
        tuple(sorted(kept.items())),
        tuple(sorted(attributes(found.get(RTA_METRICS, b"")))),
        tuple(sorted(hops, key=lambda hop: (hop.interface, hop.attributes, hop.weight))),
    )


def _next_hops(data: bytes) -> Iterator[NextHop]:
    offset = 0
    while offset + RTNEXTHOP.size <= len(data):
        length, flags, weight, interface = RTNEXTHOP.unpack_from(data, offset)
        kept = attributes(data[: offset + length], offset + RTNEXTHOP.size)
        if not flags & RTNH_F_DEAD:
            chosen = tuple(sorted((k, v) for k, v in kept if k in OF_NEXT_HOPS))
            yield NextHop(interface, bool(flags & RTNH_F_ONLINK), weight, chosen)
        offset += max(RTNEXTHOP.size, (length + 3) & ~3)


def next_hops(body: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield interface and gateway (packed; ``None``: the destination is on the link) of each."""
    found = dict(attributes(body, RTMSG.size))
    if RTA_OIF in found:
        yield NUMBER.unpack(found[RTA_OIF])[0], _gateway(found)
    for hop in _next_hops(found.get(RTA_MULTIPATH, b"")):
        yield hop.interface, _gateway(dict(hop.attributes))


def _gateway(found: Mapping[int, bytes]) -> bytes | None:
    """Return the gateway of either family: ``RTA_VIA`` begins with its family."""
    return found[RTA_VIA][2:] if RTA_VIA in found else found.get(RTA_GATEWAY)


def build(route: Route, table: int) -> bytes:
    """Return the body of a request that adds or deletes this route in a table, as ours."""
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = RTMSG.pack(
        *(route.family, route.dst_len, route.src_len, route.tos),
        *(0, OUR_PROTOCOL, route.scope, route.type, flags),
    )
    body += number(RTA_TABLE, table)
    body += b"".join(attribute(kind, value) for kind, value in route.attributes)
    if route.metrics:
        body += attribute(RTA_METRICS, b"".join(attribute(k, v) for k, v in route.metrics))
    if route.hops:
        body += attribute(RTA_MULTIPATH, b"".join(_build_hop(hop) for hop in route.hops))
    return body


def _build_hop(hop: NextHop) -> bytes:
    kept = b"".join(attribute(kind, value) for kind, value in hop.attributes)
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(kept), flags, hop.weight, hop.interface) + kept


def read_table(netlink: RouteSocket, family: int, table: int) -> list[bytes]:
    """Return the messages of a table's routes of one family.

    A kernel without the family (``ipv6.disable=1``) dumps the routes of all others instead.
    """
    body = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + number(RTA_TABLE, table)
    found = netlink.dump(RTM_GETROUTE, body)
    return [route for route in found if route[0] == family and table_of(route) == table]
