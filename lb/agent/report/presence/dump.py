"""One dump of this server's sockets: its connections by pool and bucket, and those cut off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import ANSWER_BITS, TCP, AskedFlow, FlowName, Service
from lb.agent.report.presence import sockets
from lb.agent.report.presence.kernel_filter import filter_of
from lb.agent.report.presence.sockets import Sockets, read_sockets
from lb.agent.report.presence.sorting import NONE, Sorter, packed
from lb.flow_hashes import Words
from lb.led_here import Steering

OPEN = (
    *(sockets.ESTABLISHED, sockets.FIN_WAIT1, sockets.FIN_WAIT2),
    *(sockets.CLOSE_WAIT, sockets.LAST_ACK, sockets.CLOSING),
)
"""Not the states of a connection that is being opened: its client has nothing to lose yet."""
IS_OPEN = np.isin(np.arange(256), OPEN)
Read = Callable[[int, bytes], Iterator[Sockets]]


def is_open(found: Sockets) -> NDArray[np.bool_]:
    """Return which connections are open: both ends had them, and something may still be lost.

    In FIN-WAIT-2 without an application, all is delivered that it has written (docs/adr/0013).
    """
    over = (found.state == sockets.FIN_WAIT2) & ~found.owned
    open_ones: NDArray[np.bool_] = IS_OPEN[found.state] & ~over
    return open_ones


@dataclass(frozen=True, eq=False)
class Strays:
    """Open connections in buckets that the tables in use do not lead here, as columns.

    ``cookie``: the kernel's number for the socket; ``service`` and ``bucket`` of each.
    """

    cookie: Words
    service: NDArray[np.int32]
    bucket: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Found:
    """What one dump found.

    ``held``: flows that it was asked for and that have an open socket here, with its cookie.
    ``open_cookies``: of all open TCP connections of pools.

    ``occupied``: of each bucket of all pools (``Sorter.offsets``), whether it has a connection.
    ``connections``: those, by pool. ``opened``: open ones of all services, whether their pools
    have a table or not. ``begun``: monotonic.
    """

    begun: float
    occupied: NDArray[np.bool_]
    connections: NDArray[np.int64]
    opened: int
    strays: Strays
    held: Mapping[FlowName, int] = field(default_factory=dict)
    open_cookies: Words = field(default_factory=lambda: np.zeros(0, np.uint64))


def take_dump(
    sorter: Sorter,
    begun: float,
    asked: Collection[AskedFlow] = (),
    read: Read = read_sockets,
) -> Found:
    """Read this server's sockets once, and look for flows that are asked for.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    tally = Tally(sorter, begun, asked)
    services = sorter.steering.services
    for protocol in sorted(sorter.finder.protocols):
        bytecode = filter_of(s for s in services if s.protocol == protocol)
        for found in read(protocol, bytecode):
            tally.add(found, protocol)
    return tally.found()


def count_open(services: tuple[Service, ...], read: Read = read_sockets) -> int:
    """Return how many connections of these services are open, without their pools.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    return take_dump(Sorter(Steering(1, services, {})), 0.0, read=read).opened


class Tally:
    """Counts the connections of one dump."""

    def __init__(self, sorter: Sorter, begun: float, asked: Collection[AskedFlow] = ()) -> None:
        self._sorter = sorter
        self._begun = begun
        self._occupied = np.zeros(sorter.total, np.bool_)
        self._connections = np.zeros(len(sorter.pools), np.int64)
        self._opened = 0
        self._strays: list[tuple[Words, NDArray[np.int32], NDArray[np.int64]]] = []
        nothing = np.zeros(0, np.bool_)
        self._asked = _by_pool(asked, sorter)
        self._held: dict[FlowName, int] = {}
        self._open_cookies: list[Words] = []
        self._leads = np.concatenate([nothing, *(here.leads for here in sorter.pools)])

    def add(self, found: Sockets, protocol: int) -> None:
        """Count some sockets of a protocol."""
        sorter = self._sorter
        services = sorter.services_of(found, protocol)
        known = services != NONE
        self._opened += int(np.count_nonzero(is_open(found) & known))
        pools = sorter.pool_of[services]
        known &= pools != NONE
        if not known.any():
            return
        found, services, pools = found.chosen(known), services[known], pools[known]
        buckets = sorter.buckets_of(found.flows, pools, protocol).astype(np.int64)
        at = sorter.offsets[pools] + buckets
        self._occupied[at] = True
        self._connections += np.bincount(pools, minlength=len(self._connections))
        if protocol == TCP:
            self._open_cookies.append(found.cookie[is_open(found)])
            if self._asked:
                self._look_for_asked(found, pools)
        stray = ~self._leads[at] & is_open(found)
        if stray.any():
            which = np.flatnonzero(stray)
            which = which[[not self._is_own(found, int(index)) for index in which]]
            self._strays.append((found.cookie[which], services[which], buckets[which]))

    def _look_for_asked(self, found: Sockets, pools: NDArray[np.int32]) -> None:
        """Note open connections whose flows are asked for."""
        wanted = is_open(found) & np.isin(pools, list(self._asked))
        if not wanted.any():
            return
        pools, cookies = pools[wanted], found.cookie[wanted]
        names = self._sorter.names_of(found.flows.chosen(wanted), pools)
        for pool, parts in self._asked.items():
            hits = (pools == pool) & np.isin(names >> np.uint64(ANSWER_BITS), parts)
            pool_name = self._sorter.pool_names[pool]
            for name, cookie in zip(names[hits], cookies[hits], strict=True):
                self._held[FlowName(pool_name, int(name))] = int(cookie)

    def _is_own(self, found: Sockets, at: int) -> bool:
        """Whether the client is on this server: no table decides about it."""
        low, high = (int(word) for word in found.flows.source[at])
        return packed(low, high, is_ipv4=bool(found.flows.is_ipv4[at])) in self._sorter.own

    def found(self) -> Found:
        """Return what was counted."""
        cookies, services, buckets = (
            (np.concatenate(column) for column in zip(*self._strays, strict=True))
            if self._strays
            else (np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.int64))
        )
        once = np.unique(cookies, return_index=True)[1]  # a dump may have a socket twice
        strays = Strays(cookies[once], services[once], buckets[once])
        return Found(
            *(self._begun, self._occupied, self._connections, self._opened, strays),
            self._held,
            np.concatenate([np.zeros(0, np.uint64), *self._open_cookies]),
        )


def _by_pool(asked: Collection[AskedFlow], sorter: Sorter) -> dict[int, Words]:
    """Return the parts of hashes that are asked for, by the pool's number."""
    parts: defaultdict[int, list[int]] = defaultdict(list)
    numbers = {name: number for number, name in enumerate(sorter.pool_names)}
    for one in asked:
        if one.pool in numbers:
            parts[numbers[one.pool]].append(one.part)
    return {number: np.array(found, np.uint64) for number, found in parts.items()}
