"""Each DIP's next-hop MAC, from the kernel's routes and neighbours, kept resolved and followed.

Nothing else on this machine talks to DIPs, so the agent asks the kernel to resolve them itself
(a neighbour entry with NTF_USE). Thousands of DIPs behind one gateway are one neighbour.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from lb.agent.netlink.links import open_netlink
from lb.agent.worker import Worker

NUD_PERMANENT = 0x80
NUD_FRESH = 0x02 | 0x40 | NUD_PERMANENT
NUD_VALID = NUD_FRESH | 0x04 | 0x08 | 0x10
NTF_USE = 1
GROUPS = 0x1 | 0x4 | 0x10 | 0x40
"""RTMGRP_LINK, _NEIGH, _IPV4_IFADDR and _IPV4_ROUTE."""
NEIGHBOUR_EVENTS = frozenset({28, 29})
LINK_EVENTS = frozenset({16, 17})
HEADER = struct.Struct("=IHHII")
INDEX_OFFSET = HEADER.size + 4
"""Interface index in struct ndmsg and struct ifinfomsg alike."""
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
    """What a batch of netlink messages was about."""

    routes: bool = False
    neighbours: bool = False
    link: bool = False


def read_events(data: bytes, ifindex: int) -> Events:
    """Sort netlink messages: those about other interfaces' neighbours and links do not count."""
    routes = neighbours = link = False
    for kind, offset in _messages(data):
        if kind in NEIGHBOUR_EVENTS or kind in LINK_EVENTS:
            (index,) = struct.unpack_from("=i", data, offset + INDEX_OFFSET)
            neighbours |= kind in NEIGHBOUR_EVENTS and index == ifindex
            link |= kind in LINK_EVENTS and index == ifindex
        else:
            routes = True
    return Events(routes, neighbours, link)


def _messages(data: bytes) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        yield kind, offset
        offset += max(HEADER.size, (length + 3) & ~3)


def next_hop(netlink: Any, dip: IPv4Address, ifindex: int) -> IPv4Address | None:
    """Return the address whose MAC leads to a DIP by this interface; ``None`` without a route."""
    try:
        answer = next(iter(netlink.route("get", dst=str(dip), oif=ifindex)), None)
    except NetlinkError:  # unreachable, prohibited: packets go back to the router
        return None
    if answer is None or answer.get_attr("RTA_OIF") != ifindex:
        return None
    return IPv4Address(answer.get_attr("RTA_GATEWAY") or dip)


def read_neighbours(netlink: Any, ifindex: int) -> dict[IPv4Address, Neighbour]:
    """Return the kernel's IPv4 neighbours on an interface."""
    found: dict[IPv4Address, Neighbour] = {}
    for entry in netlink.get_neighbours(family=socket.AF_INET, ifindex=ifindex):
        mac = entry.get_attr("NDA_LLADDR")
        usable = mac is not None and bool(entry["state"] & NUD_VALID)
        found[IPv4Address(entry.get_attr("NDA_DST"))] = Neighbour(
            bytes.fromhex(mac.replace(":", "")) if usable else None, entry["state"]
        )
    return found


def ask_for(netlink: Any, ifindex: int, addresses: Iterable[IPv4Address]) -> None:
    """Have the kernel resolve these addresses, or confirm what it has."""
    for address in addresses:
        try:
            netlink.neigh("set", dst=str(address), ifindex=ifindex, state=0, flags=NTF_USE)
        except NetlinkError as error:
            structlog.get_logger().warning(
                "cannot ask for a neighbour", about=str(address), reason=os.strerror(error.code)
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
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__("neighbours", on_death)
        self._ifindex = ifindex
        self._own = own
        self._publish = publish
        self._on_link = on_link
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0.0)
        self._dips: Mapping[int, IPv4Address] = {}
        self._tracked: Mapping[int, IPv4Address] = {}
        self._hops: dict[IPv4Address, IPv4Address | None] = {}
        self._published: dict[int, bytes | None] = {}
        self.unresolved = 0

    def track(self, dips: Mapping[int, IPv4Address]) -> None:
        """Say which DIPs are of interest, by index. Whatever was published of new ones is void."""
        with self._lock:
            self._dips = dict(dips)
        self._wake_write.send(b"x")

    def stop(self) -> None:
        """Ask it to end."""
        super().stop()
        self._wake_write.send(b"x")

    def step(self) -> float:
        """Follow until ``stop``."""
        with (
            open_netlink() as netlink,
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events,
        ):
            events.settimeout(0.0)
            events.bind((0, GROUPS))
            self._follow(netlink, events)
        return 0.0

    def _follow(self, netlink: Any, events: socket.socket) -> None:
        poll = select.poll()
        poll.register(events, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        asked_at = 0.0
        while not self.ending.is_set():
            pause = RETRY_SECONDS if self.unresolved else REFRESH_SECONDS
            left = max(0.0, asked_at + pause - time.monotonic())
            if poll.poll(left * 1000 + 1):
                self.pause(SETTLE_SECONDS)
            happened = self._drain(events)
            if happened.link:
                self._on_link()
            changed = self._take_dips()
            if changed or happened.routes:
                self._find_hops(netlink, afresh=happened.routes)
            due = time.monotonic() >= asked_at + pause
            if changed or due or happened.routes:
                self._ask(netlink)
                asked_at = time.monotonic()
            if changed or due or happened.routes or happened.neighbours:
                self._compare(netlink)

    def _drain(self, events: socket.socket) -> Events:
        """Read all that happened; if some was lost, everything may have happened."""
        routes = neighbours = link = False
        while True:
            try:
                some = read_events(events.recv(1 << 16), self._ifindex)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: more events than the socket could hold
                some = Events(routes=True, neighbours=True, link=True)
            routes |= some.routes
            neighbours |= some.neighbours
            link |= some.link
        return Events(routes, neighbours, link)

    def _take_dips(self) -> bool:
        """Take over what ``track`` said; return whether that is something new."""
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            return False
        with self._lock:
            dips = {index: dip for index, dip in self._dips.items() if dip != self._own}
        for index, dip in dips.items():
            if self._tracked.get(index) != dip:
                self._published.pop(index, None)  # the data plane forgot it with the old DIP
        self._published = {i: mac for i, mac in self._published.items() if i in dips}
        self._tracked = dips
        return True

    def _find_hops(self, netlink: Any, *, afresh: bool) -> None:
        known = {} if afresh else self._hops
        self._hops = {
            dip: known[dip] if dip in known else next_hop(netlink, dip, self._ifindex)
            for dip in self._tracked.values()
        }

    def _ask(self, netlink: Any) -> None:
        here = read_neighbours(netlink, self._ifindex)
        hops = {hop for hop in self._hops.values() if hop is not None}
        stale = (hop for hop in hops if hop not in here or not here[hop].state & NUD_FRESH)
        ask_for(netlink, self._ifindex, sorted(stale))

    def _compare(self, netlink: Any) -> None:
        """Publish what differs from what was published."""
        here = read_neighbours(netlink, self._ifindex)
        changes: dict[int, bytes | None] = {}
        for index, dip in self._tracked.items():
            hop = self._hops.get(dip)
            mac = here[hop].mac if hop is not None and hop in here else None
            if index not in self._published or self._published[index] != mac:
                changes[index] = mac
        self._published.update(changes)
        self.unresolved = sum(mac is None for mac in self._published.values())
        if changes:
            self._publish(changes)
