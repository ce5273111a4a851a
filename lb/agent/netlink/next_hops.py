"""The next hop of each DIP by the kernel's routes, looked up again when a route may change it.

A next hop is an IPv4 or an IPv6 address (BGP unnumbered: ``via inet6 fe80::1``, RFC 8950).
"""

from __future__ import annotations

import socket
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from lb.agent.netlink.messages import NUMBER, Message, attribute, attributes, number
from lb.agent.netlink.route_filter import Interest, ranges_of
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.netlink.routes import (
    RTA_DST,
    RTA_NH_ID,
    RTA_OIF,
    RTM_GETROUTE,
    RTMSG,
    next_hops,
    table_of,
)
from lb.agent.netlink.rules import tables_in_use

RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
IPV4_BITS = 32

Hop = IPv4Address | IPv6Address


@dataclass(frozen=True)
class RouteChange:
    """A route of a table that was added, changed or deleted: where its prefix begins and ends."""

    table: int
    length: int
    first: int
    last: int


@dataclass(frozen=True)
class Way:
    """How a DIP is reached: the next hop, and table and length of the route that was found."""

    hop: Hop
    table: int
    length: int

    def may_differ_after(self, change: RouteChange) -> bool:
        """Whether a changed route may come before the one that was found."""
        return change.table != self.table or change.length >= self.length


def route_change(message: Message) -> RouteChange:
    """Read a notification about an IPv4 route."""
    length = message.body[1]
    destination = dict(attributes(message.body, RTMSG.size)).get(RTA_DST, bytes(4))
    first = int.from_bytes(destination, "big")
    size = 1 << (IPV4_BITS - min(IPV4_BITS, length))
    return RouteChange(table_of(message.body), length, first, first + size - 1)


def look_up(
    netlink: RouteSocket, dips: Iterable[IPv4Address], ifindex: int
) -> dict[IPv4Address, Way | None]:
    """Return the way to each DIP by this interface; ``None`` without a route.

    The kernel is asked for the route itself: without one, it would suppose that a destination is on
    the link of the interface that it is asked about.
    """
    chosen = list(dips)
    flags = RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH
    requests = [_request(dip, ifindex, flags) for dip in chosen]
    answers = netlink.get_each(RTM_GETROUTE, requests)
    found = zip(chosen, answers, strict=True)
    return {dip: _way(netlink, dip, ifindex, route) for dip, route in found}


def _request(dip: IPv4Address, ifindex: int, flags: int) -> bytes:
    body = RTMSG.pack(socket.AF_INET, IPV4_BITS, 0, 0, 0, 0, 0, 0, flags)
    return body + attribute(RTA_DST, dip.packed) + number(RTA_OIF, ifindex)


def _way(netlink: RouteSocket, dip: IPv4Address, ifindex: int, route: bytes | None) -> Way | None:
    if route is None:  # none, unreachable, prohibited: packets go back to the router
        return None
    hops = [gateway for interface, gateway in next_hops(route) if interface == ifindex]
    if not hops and RTA_NH_ID in dict(attributes(route, RTMSG.size)):
        hops = _chosen_hop(netlink, dip, ifindex)
    if not hops:
        return None
    gateway = hops[0]
    hop = dip if gateway is None else ip_address(gateway)
    return Way(hop, table_of(route), route[1])


def _chosen_hop(netlink: RouteSocket, dip: IPv4Address, ifindex: int) -> list[bytes | None]:
    """Ask for the hop that the kernel would use: it may show a nexthop object by its id alone."""
    (answer,) = netlink.get_each(RTM_GETROUTE, [_request(dip, ifindex, 0)])
    if answer is None or dict(attributes(answer, RTMSG.size)).get(RTA_OIF) != NUMBER.pack(ifindex):
        return []
    return [gateway for _, gateway in next_hops(answer)]


class NextHops:
    """The ways of all DIPs, and which of them have to be looked up again."""

    def __init__(self, ifindex: int) -> None:
        self._ifindex = ifindex
        self._sorted: list[IPv4Address] = []
        self._numbers: list[int] = []
        self._ways: dict[IPv4Address, Way | None] = {}
        self._pending: set[IPv4Address] = set()
        self._tables: frozenset[int] | None = None
        self._reread = True

    @property
    def pending(self) -> bool:
        """Whether something has to be looked up."""
        return bool(self._pending) or self._reread

    @property
    def interest(self) -> Interest:
        """Which changes of routes matter."""
        return Interest(self._tables, ranges_of(self._sorted))

    def hop(self, dip: IPv4Address) -> Hop | None:
        """Return the next hop of a DIP, ``None`` without a route."""
        way = self._ways.get(dip)
        return None if way is None else way.hop

    @property
    def hops(self) -> frozenset[Hop]:
        """All next hops."""
        return frozenset(way.hop for way in self._ways.values() if way is not None)

    def track(self, dips: Iterable[IPv4Address]) -> None:
        """Follow these DIPs from now on."""
        self._sorted = sorted(set(dips))
        self._numbers = [int(dip) for dip in self._sorted]
        kept = {dip: self._ways[dip] for dip in self._sorted if dip in self._ways}
        self._ways = kept
        self._pending = {dip for dip in self._sorted if dip not in kept or dip in self._pending}

    def note(self, changes: Iterable[RouteChange]) -> None:
        """Look up what these may concern."""
        for change in changes:
            if self._tables is not None and change.table not in self._tables:
                continue
            start = bisect_left(self._numbers, change.first)
            end = bisect_right(self._numbers, change.last)
            for dip in self._sorted[start:end]:
                way = self._ways.get(dip)
                if way is None or way.may_differ_after(change):
                    self._pending.add(dip)

    def note_all(self) -> None:
        """Look up everything, and read the rules again."""
        self._pending.update(self._sorted)
        self._reread = True

    def read_rules(self, netlink: RouteSocket) -> None:
        """Read the rules, if they may have changed."""
        if self._reread:
            self._tables = tables_in_use(netlink)
            self._reread = False

    def look_up(self, netlink: RouteSocket) -> None:
        """Look up what is pending."""
        pending, self._pending = sorted(self._pending), set()
        self._ways.update(look_up(netlink, pending, self._ifindex))
