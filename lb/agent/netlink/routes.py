"""Routes as the kernel's netlink has them, and the copies that answer for VIPs. Pure.

A copy leads where its original leads. It lies in another table, bears our mark, and has the
``advmss`` metric lowered: the MSS that SYN-ACKs which leave by it advertise (ip-route(8)).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lb.agent.netlink.bulk import NUMBER, RTM_GETROUTE, Netlink, attribute, attributes

MESSAGE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
MAIN = 254
PROTOCOL = 60
"""The mark of what is ours: rtm_protocol, FRA_PROTOCOL. Nobody's in iproute2's rt_protos."""
UNICAST = 1
THROW = 9
MIRRORED_TYPES = frozenset({UNICAST, 2, 6, 7, 8, THROW})
"""Also RTN_LOCAL, _BLACKHOLE, _UNREACHABLE and _PROHIBIT: they, too, say where packets go."""
RTM_F_CLONED = 0x200
RTNH_F_DEAD = 1
RTNH_F_ONLINK = 4

DST, SRC, OIF, GATEWAY, PRIORITY, PREFSRC, METRICS = 1, 2, 4, 5, 6, 7, 8
MULTIPATH, FLOW = 9, 11
TABLE, VIA, PREF, ENCAP_TYPE, ENCAP, TTL_PROPAGATE, NH_ID = 15, 18, 20, 21, 22, 26, 30
COPIED = frozenset(
    {DST, SRC, OIF, GATEWAY, PRIORITY, PREFSRC, FLOW, VIA, PREF}
    | {ENCAP_TYPE, ENCAP, TTL_PROPAGATE, NH_ID}
)
"""Attributes of a copy as of its original. RTA_PREFSRC is for what this host sends of its own,
where that is routed by copies too; answers have their source already."""
OF_NEXT_HOPS = frozenset({OIF, GATEWAY, VIA, FLOW, ENCAP_TYPE, ENCAP})
NEXT_HOP = struct.Struct("=HBBi")
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
        """What a route is replaced by: destination, source, TOS and priority."""
        found = dict(self.attributes)
        return b"".join(
            (
                bytes((self.family, self.dst_len, self.src_len, self.tos)),
                *(found.get(kind, b"") for kind in (DST, SRC, PRIORITY)),
            )
        )

    @property
    def interfaces(self) -> tuple[int, ...]:
        """Indices of the interfaces that it may lead out by."""
        here = [NUMBER.unpack(value)[0] for kind, value in self.attributes if kind == OIF]
        return (*here, *(hop.interface for hop in self.hops))

    def __str__(self) -> str:
        destination = dict(self.attributes).get(DST)
        if destination is None:
            return "default"
        return f"{socket.inet_ntop(self.family, destination)}/{self.dst_len}"


def table_of(body: bytes) -> int:
    """Return the table that a route's message is about."""
    table: int = body[4]
    for kind, value in attributes(body, MESSAGE.size):
        if kind == TABLE:
            return int(NUMBER.unpack(value)[0])
    return table


def protocol_of(body: bytes) -> int:
    """Return who made a route: ``PROTOCOL`` for ours."""
    return body[5]


def is_mirrored(body: bytes) -> bool:
    """Whether a route of the main table has to have a copy."""
    return body[7] in MIRRORED_TYPES and not MESSAGE.unpack_from(body)[8] & RTM_F_CLONED


def parse(body: bytes) -> Route:
    """Read a route's message. Dead next hops do not count, nor does what the kernel only tells."""
    family, dst_len, src_len, tos, _, _, scope, kind, flags = MESSAGE.unpack_from(body)
    found = dict(attributes(body, MESSAGE.size))
    kept = {k: v for k, v in found.items() if k in COPIED}
    hops = tuple(_next_hops(found.get(MULTIPATH, b"")))
    onlink = bool(flags & RTNH_F_ONLINK)
    if NH_ID in kept:
        kept = {k: v for k, v in kept.items() if k not in OF_NEXT_HOPS}
        hops, onlink = (), False
    elif len(hops) == 1:  # as the kernel tells it of a route that never had more
        (only,) = hops
        kept |= {OIF: NUMBER.pack(only.interface), **dict(only.attributes)}
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
        tuple(sorted(attributes(found.get(METRICS, b"")))),
        tuple(sorted(hops, key=lambda hop: (hop.interface, hop.attributes, hop.weight))),
    )


def _next_hops(data: bytes) -> Iterator[NextHop]:
    offset = 0
    while offset + NEXT_HOP.size <= len(data):
        length, flags, weight, interface = NEXT_HOP.unpack_from(data, offset)
        kept = attributes(data[: offset + length], offset + NEXT_HOP.size)
        if not flags & RTNH_F_DEAD:
            chosen = tuple(sorted((k, v) for k, v in kept if k in OF_NEXT_HOPS))
            yield NextHop(interface, bool(flags & RTNH_F_ONLINK), weight, chosen)
        offset += max(NEXT_HOP.size, (length + 3) & ~3)


def ways(body: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield the interface and the gateway (packed; ``None``: on the link) of each next hop."""
    found = dict(attributes(body, MESSAGE.size))
    if OIF in found:
        yield NUMBER.unpack(found[OIF])[0], _gateway(found)
    for hop in _next_hops(found.get(MULTIPATH, b"")):
        yield hop.interface, _gateway(dict(hop.attributes))


def _gateway(found: Mapping[int, bytes]) -> bytes | None:
    """Return the gateway of either family: ``RTA_VIA`` begins with its family."""
    return found[VIA][2:] if VIA in found else found.get(GATEWAY)


def build(route: Route, table: int) -> bytes:
    """Return the body of a request that adds or deletes this route in a table, as ours."""
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = MESSAGE.pack(
        *(route.family, route.dst_len, route.src_len, route.tos),
        *(0, PROTOCOL, route.scope, route.type, flags),
    )
    body += attribute(TABLE, NUMBER.pack(table))
    body += b"".join(attribute(kind, value) for kind, value in route.attributes)
    if route.metrics:
        body += attribute(METRICS, b"".join(attribute(k, v) for k, v in route.metrics))
    if route.hops:
        body += attribute(MULTIPATH, b"".join(_build_hop(hop) for hop in route.hops))
    return body


def _build_hop(hop: NextHop) -> bytes:
    kept = b"".join(attribute(kind, value) for kind, value in hop.attributes)
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return NEXT_HOP.pack(NEXT_HOP.size + len(kept), flags, hop.weight, hop.interface) + kept


def read_table(netlink: Netlink, family: int, table: int) -> list[bytes]:
    """Return the messages of a table's routes of one family.

    A kernel that has not the family (``ipv6.disable=1``) tells the routes of all others instead.
    """
    body = MESSAGE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(TABLE, NUMBER.pack(table))
    found = netlink.dump(RTM_GETROUTE, body)
    return [route for route in found if route[0] == family and table_of(route) == table]
