"""Finds each DIP's next-hop MAC in the kernel's routes and neighbours, and keeps it resolved.

Nothing else on this machine sends to DIPs, so the agent requests their resolution from the kernel
(a neighbour entry with NTF_USE). Thousands of DIPs behind one gateway are one neighbour.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

import structlog

from lb.agent.netlink.attempts import Attempts
from lb.agent.netlink.messages import FAMILY, Message, attribute, attributes, number
from lb.agent.netlink.next_hops import Hop, NextHops, RouteChange, route_change
from lb.agent.netlink.route_filter import filter_for
from lb.agent.netlink.route_socket import ADD_OR_REPLACE, NetlinkError, Request, RouteSocket
from lb.agent.netlink.routes import RTM_DELROUTE, RTM_NEWROUTE
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
GROUPS = RTMGRP.LINK | RTMGRP.NEIGH | RTMGRP.IPV4_IFADDR | RTMGRP.IPV4_ROUTE | RTMGRP.IPV4_RULE
INDEX = struct.Struct("=4xi")
"""The interface's index in struct ndmsg and in struct ifinfomsg."""
RETRY_SECONDS = 0.5
"""Between looks for an interface that is gone."""
REFRESH_SECONDS = 10.0
"""How often neighbours are confirmed that may have gone."""
LOOK_UP_SECONDS = 30.0
"""For changes without a notification: routes that go with an interface or an address."""
SETTLE_SECONDS, BUSY_SETTLE_SECONDS = 0.02, 0.1
BUSY_SECONDS = 1.0
"""After an event, others may follow for this long; longer if routes changed shortly before."""
COST = 100
LONGEST_REST_SECONDS = 1.0
"""After a look-up of routes there is a rest of so many times the CPU time that it took."""


@dataclass(frozen=True)
class Neighbour:
    """An entry of the kernel's neighbour table; ``mac`` is ``None`` unless it can be used."""

    mac: bytes | None
    state: int


@dataclass(frozen=True)
class Events:
    """What notifications were about. ``everything``: any route or neighbour may have changed.

    ``neighbours`` has the MAC, or ``None``, of each one that changed. ``link``: our interface did.
    """

    routes: tuple[RouteChange, ...] = ()
    neighbours: Mapping[Hop, bytes | None] = field(default_factory=dict)
    link: bool = False
    everything: bool = False


def read_events(notifications: Iterable[Message], ifindex: int) -> Events:
    """Sort notifications; those about other interfaces' neighbours and links do not count."""
    routes: list[RouteChange] = []
    macs: dict[Hop, bytes | None] = {}
    everything = link = False
    for message in notifications:
        kind = message.kind
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            for hop, neighbour in read_neighbour(message.body, ifindex):
                macs[hop] = neighbour.mac if kind == RTM_NEWNEIGH else None
        elif kind in (RTM_NEWLINK, RTM_DELLINK):
            link |= INDEX.unpack_from(message.body) == (ifindex,)
        elif kind in (RTM_NEWROUTE, RTM_DELROUTE):
            routes.append(route_change(message))
        else:
            everything = True
    return Events(tuple(routes), macs, link, everything or link)


def read_neighbour(body: bytes, ifindex: int) -> Iterable[tuple[Hop, Neighbour]]:
    """Yield the address and the entry of one neighbour, nothing if it is of another interface."""
    family, index, state, _, _ = NDMSG.unpack_from(body)
    known = dict(attributes(body, NDMSG.size))
    if index == ifindex and family in FAMILY.values() and NDA_DST in known:
        mac = known.get(NDA_LLADDR) if state & NUD_VALID else None
        yield ip_address(known[NDA_DST]), Neighbour(mac, state)


def read_neighbours(
    netlink: RouteSocket, ifindex: int, versions: Collection[int]
) -> dict[Hop, Neighbour]:
    """Return the kernel's neighbours on an interface, of these versions of IP."""
    found: dict[Hop, Neighbour] = {}
    for version in sorted(versions):
        request = NDMSG.pack(FAMILY[version], 0, 0, 0, 0) + number(NDA_IFINDEX, ifindex)
        for body in netlink.dump(RTM_GETNEIGH, request):
            found.update(read_neighbour(body, ifindex))
    return found


def resolve(netlink: RouteSocket, ifindex: int, addresses: Iterable[Hop]) -> None:
    """Have the kernel resolve these addresses, or confirm what it has."""
    chosen = list(addresses)
    bodies = [
        NDMSG.pack(FAMILY[hop.version], ifindex, 0, NTF_USE, 0) + attribute(NDA_DST, hop.packed)
        for hop in chosen
    ]
    codes = netlink.change([Request(RTM_NEWNEIGH, body, ADD_OR_REPLACE) for body in bodies])
    for address, code in zip(chosen, codes, strict=True):
        if code:
            structlog.get_logger().warning(
                "cannot ask for a neighbour", about=str(address), reason=os.strerror(code)
            )


class Neighbours(Worker):
    """Follows the kernel and publishes (index, MAC or ``None``) whenever a DIP's changes.

    ``publish`` is called too when only the number of ``unresolved`` DIPs changes. It and
    ``on_link`` (our interface changed) are called from this thread.
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
        self._next_hops = NextHops(ifindex)
        self._present: dict[Hop, Neighbour] = {}
        self._attempts = Attempts()
        self._published: dict[int, bytes | None] = {}
        self._busy_until = self._rest_until = self._look_up_at = self._refresh_at = 0.0
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
                self._on_link()  # its MAC may have changed since it was read
                self._look_up_at = self._refresh_at = 0.0  # and so may all that was not watched
                while not self.ending.is_set():
                    if self._watcher.wait(self._due_at() - time.monotonic()):
                        busy = time.monotonic() < self._busy_until
                        self.pause(BUSY_SETTLE_SECONDS if busy else SETTLE_SECONDS)
                    self._follow(netlink, self._events(), time.monotonic())
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            self._on_link()
            return RETRY_SECONDS
        return 0.0

    def _due_at(self) -> float:
        """When something is due without an event."""
        looks = self._rest_until if self._next_hops.pending else self._look_up_at
        return min(looks, self._refresh_at, self._attempts.next_at)

    def _follow(self, netlink: RouteSocket, happened: Events, now: float) -> None:
        """Do what is due now, after these events."""
        if happened.link:
            self._attempts.start_anew()
            self._on_link()
        changed = self._take_dips()
        if happened.routes:
            self._busy_until = now + BUSY_SECONDS
            self._next_hops.note(happened.routes)
        if happened.everything or now >= self._look_up_at:
            self._look_up_at = now + LOOK_UP_SECONDS
            self._next_hops.note_all()
        looked = self._next_hops.pending and (changed or now >= self._rest_until)
        if looked:
            self._look_up(netlink, now)
        due = now >= min(self._refresh_at, self._attempts.next_at)
        if looked or changed or due or happened.everything or self._differ(happened.neighbours):
            self._compare(netlink, now)

    def _look_up(self, netlink: RouteSocket, now: float) -> None:
        """Look up routes; the kernel reports from before on what may change them."""
        started = time.thread_time()
        self._next_hops.read_rules(netlink)
        self._watcher.set_filter(filter_for(self._next_hops.interest))
        self._next_hops.look_up(netlink)
        took = time.thread_time() - started
        self._rest_until = now + min(LONGEST_REST_SECONDS, COST * took)

    def _events(self) -> Events:
        """Return what happened; if notifications were lost, that may be everything."""
        notifications, lost = self._watcher.notifications()
        if lost:
            return Events(link=True, everything=True)
        return read_events(notifications, self._ifindex)

    def _differ(self, macs: Mapping[Hop, bytes | None]) -> bool:
        """Whether these MACs of next hops are others than the last time."""
        hops = self._next_hops.hops
        return any(
            hop in hops and mac != (self._present[hop].mac if hop in self._present else None)
            for hop, mac in macs.items()
        )

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
        self._next_hops.track(dips.values())
        return True

    def _compare(self, netlink: RouteSocket, now: float) -> None:
        """Read the neighbours, request what is missing, publish what has changed."""
        hops = self._next_hops.hops
        self._present = read_neighbours(netlink, self._ifindex, {hop.version for hop in hops})
        known = {hop: self._present[hop] for hop in hops if hop in self._present}
        missing = sorted((h for h in hops if h not in known or known[h].mac is None), key=_order)
        wanted = self._attempts.take_due(missing, now)
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            old = (h for h, n in known.items() if n.mac and not n.state & NUD_FRESH)
            wanted += sorted(old, key=_order)
        resolve(netlink, self._ifindex, wanted)
        self._publish_changes(known)

    def _publish_changes(self, known: Mapping[Hop, Neighbour]) -> None:
        changes: dict[int, bytes | None] = {}
        for index, dip in self._tracked.items():
            hop = self._next_hops.hop(dip)
            mac = known[hop].mac if hop is not None and hop in known else None
            if index not in self._published or self._published[index] != mac:
                changes[index] = mac
        self._published.update(changes)
        unresolved = sum(mac is None for mac in self._published.values())
        if changes or unresolved != self.unresolved:
            self.unresolved = unresolved
            self._publish(changes)


def _order(hop: Hop) -> tuple[int, int]:
    return hop.version, int(hop)
