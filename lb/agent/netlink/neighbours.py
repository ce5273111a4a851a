"""Finds each DIP's next-hop MAC in the kernel's routes and neighbours, and keeps it resolved.

Nothing else on this machine sends to DIPs, so the agent requests their resolution from the kernel
(a neighbour entry with NTF_USE). Thousands of DIPs behind one gateway are one neighbour.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

import structlog

from lb.agent.netlink.messages import NUMBER, Message, attribute, attributes, number
from lb.agent.netlink.route_socket import ADD_OR_REPLACE, NetlinkError, Request, RouteSocket
from lb.agent.netlink.routes import RTA_DST, RTA_GATEWAY, RTA_OIF, RTM_GETROUTE, RTMSG
from lb.agent.netlink.watcher import RTMGRP, Watcher
from lb.agent.worker import Worker

RTM_NEWLINK, RTM_DELLINK = 16, 17
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDMSG = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, interface, state, flags, type."""
NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE = 0x02, 0x04, 0x08, 0x10
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NUD_FRESH = NUD_REACHABLE | NUD_NOARP | NUD_PERMANENT
NUD_VALID = NUD_FRESH | NUD_STALE | NUD_DELAY | NUD_PROBE
NTF_USE = 1
GROUPS = RTMGRP.LINK | RTMGRP.NEIGH | RTMGRP.IPV4_IFADDR | RTMGRP.IPV4_ROUTE
INDEX = struct.Struct("=4xi")
"""The interface's index in struct ndmsg and in struct ifinfomsg."""
REFRESH_SECONDS = 10.0
RETRY_SECONDS = 0.5
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Neighbour:
    """An entry of the kernel's neighbour table."""

    mac: bytes | None
    state: int


@dataclass(frozen=True)
class Events:
    """What notifications were about."""

    routes: bool = False
    neighbours: bool = False
    link: bool = False


def read_events(notifications: Iterable[Message], ifindex: int) -> Events:
    """Sort notifications; those about other interfaces' neighbours and links do not count."""
    routes = neighbours = link = False
    for message in notifications:
        kind = message.kind
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            neighbours |= INDEX.unpack_from(message.body) == (ifindex,)
        elif kind in (RTM_NEWLINK, RTM_DELLINK):
            link |= INDEX.unpack_from(message.body) == (ifindex,)
        else:
            routes = True
    return Events(routes, neighbours, link)


def next_hop(netlink: RouteSocket, dip: IPv4Address, ifindex: int) -> IPv4Address | None:
    """Return the address whose MAC leads to a DIP by this interface; ``None`` without a route."""
    request = RTMSG.pack(socket.AF_INET, dip.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    request += attribute(RTA_DST, dip.packed) + number(RTA_OIF, ifindex)
    try:
        answer = netlink.get(RTM_GETROUTE, request)
    except NetlinkError:  # unreachable, prohibited: packets go back to the router
        return None
    found = dict(attributes(answer, RTMSG.size))
    if found.get(RTA_OIF) != NUMBER.pack(ifindex):
        return None
    return IPv4Address(found.get(RTA_GATEWAY, dip.packed))


def read_neighbours(netlink: RouteSocket, ifindex: int) -> dict[IPv4Address, Neighbour]:
    """Return the kernel's IPv4 neighbours on an interface."""
    request = NDMSG.pack(socket.AF_INET, 0, 0, 0, 0) + number(NDA_IFINDEX, ifindex)
    found: dict[IPv4Address, Neighbour] = {}
    for body in netlink.dump(RTM_GETNEIGH, request):
        family, index, state, _, _ = NDMSG.unpack_from(body)
        known = dict(attributes(body, NDMSG.size))
        if (family, index) == (socket.AF_INET, ifindex):
            mac = known.get(NDA_LLADDR) if state & NUD_VALID else None
            found[IPv4Address(known[NDA_DST])] = Neighbour(mac, state)
    return found


def resolve(netlink: RouteSocket, ifindex: int, addresses: Iterable[IPv4Address]) -> None:
    """Have the kernel resolve these addresses, or confirm what it has."""
    chosen = list(addresses)
    header = NDMSG.pack(socket.AF_INET, ifindex, 0, NTF_USE, 0)
    bodies = (header + attribute(NDA_DST, address.packed) for address in chosen)
    codes = netlink.change([Request(RTM_NEWNEIGH, body, ADD_OR_REPLACE) for body in bodies])
    for address, code in zip(chosen, codes, strict=True):
        if code:
            structlog.get_logger().warning(
                "cannot ask for a neighbour", about=str(address), reason=os.strerror(code)
            )


class Neighbours(Worker):
    """Follows the kernel and publishes (index, MAC or ``None``) whenever a DIP's changes.

    ``publish`` and ``on_link`` (our interface changed) are called from this thread.
    """

    def __init__(
        self,
        ifindex: int,
        own: IPv4Address,
        publish: Callable[[Mapping[int, bytes | None]], None],
        on_link: Callable[[], None],
    ) -> None:
        super().__init__("neighbours")
        self._ifindex = ifindex
        self._own = own
        self._publish = publish
        self._on_link = on_link
        self._watcher = Watcher(GROUPS)
        self._dips: Mapping[int, IPv4Address] = {}
        self._tracked: Mapping[int, IPv4Address] = {}
        self._hops: dict[IPv4Address, IPv4Address | None] = {}
        self._published: dict[int, bytes | None] = {}
        self.unresolved = 0

    def track(self, dips: Mapping[int, IPv4Address]) -> None:
        """Follow these DIPs, by index, from now on. What was published of new ones is void."""
        with self.requested:
            self._dips = dict(dips)
        self._watcher.wake()

    def stop(self) -> None:
        """Request the end."""
        super().stop()
        self._watcher.wake()

    def step(self) -> float:
        """Follow until ``stop``, or until the interface is gone."""
        try:
            with RouteSocket() as netlink, self._watcher:
                self._follow(netlink)
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            self._on_link()
            return RETRY_SECONDS
        return 0.0

    def _follow(self, netlink: RouteSocket) -> None:
        asked_at = 0.0
        self._on_link()  # its MAC may have changed since it was read, before it was watched
        while not self.ending.is_set():
            pause = RETRY_SECONDS if self.unresolved else REFRESH_SECONDS
            if self._watcher.wait(asked_at + pause - time.monotonic()):
                self.pause(SETTLE_SECONDS)
            happened = self._events()
            if happened.link:
                self._on_link()
            changed = self._take_dips()
            if changed or happened.routes:
                self._find_hops(netlink, afresh=happened.routes)
            due = time.monotonic() >= asked_at + pause
            if changed or due or happened.routes:
                self._resolve(netlink)
                asked_at = time.monotonic()
            if changed or due or happened.routes or happened.neighbours:
                self._compare(netlink)

    def _events(self) -> Events:
        """Return what happened; if notifications were lost, that may be everything."""
        notifications, lost = self._watcher.notifications()
        everything = Events(routes=True, neighbours=True, link=True)
        return everything if lost else read_events(notifications, self._ifindex)

    def _take_dips(self) -> bool:
        """Take over what ``track`` was called with; return whether it was called."""
        if not self._watcher.woken():
            return False
        with self.requested:
            dips = {index: dip for index, dip in self._dips.items() if dip != self._own}
        for index, dip in dips.items():
            if self._tracked.get(index) != dip:
                self._published.pop(index, None)  # the data plane forgot it with the old DIP
        self._published = {i: mac for i, mac in self._published.items() if i in dips}
        self._tracked = dips
        return True

    def _find_hops(self, netlink: RouteSocket, *, afresh: bool) -> None:
        known = {} if afresh else self._hops
        self._hops = {
            dip: known[dip] if dip in known else next_hop(netlink, dip, self._ifindex)
            for dip in self._tracked.values()
        }

    def _resolve(self, netlink: RouteSocket) -> None:
        present = read_neighbours(netlink, self._ifindex)
        hops = {hop for hop in self._hops.values() if hop is not None}
        stale = (hop for hop in hops if hop not in present or not present[hop].state & NUD_FRESH)
        resolve(netlink, self._ifindex, sorted(stale))

    def _compare(self, netlink: RouteSocket) -> None:
        """Publish what differs from what was published."""
        present = read_neighbours(netlink, self._ifindex)
        changes: dict[int, bytes | None] = {}
        for index, dip in self._tracked.items():
            hop = self._hops.get(dip)
            mac = present[hop].mac if hop is not None and hop in present else None
            if index not in self._published or self._published[index] != mac:
                changes[index] = mac
        self._published.update(changes)
        self.unresolved = sum(mac is None for mac in self._published.values())
        if changes:
            self._publish(changes)
