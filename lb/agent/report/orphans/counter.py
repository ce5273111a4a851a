"""Counts orphans in a thread of its own, from the data plane's map whenever it has new ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from controlplane.domain.objects import FlowName
from lb.agent.facts import SharedFacts
from lb.agent.netlink.answer_links import answer_links
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.report.orphans.lookup import have_sockets
from lb.agent.report.orphans.outbox import Outbox
from lb.agent.report.orphans.sorting import KINDS, flows_of, orphans_of
from lb.agent.report.presence.sorting import Sorter
from lb.agent.worker import Worker
from lb.dataplane.maps.resets import ResetCounts, ResetFlows
from lb.flow_hashes import FlowColumns
from lb.led_here import Steering

LOOK_SECONDS = 0.1
"""How often it asks for the number of flows: two system calls."""
REST = 33.0
"""After reading flows it rests for so many times the CPU time that this took: 3 % of a core."""
LEAST_REST_SECONDS = 0.2
MOST_REST_SECONDS = 10.0
GUARD_NS = 1_000_000
"""A flow's time is taken a moment before the map has it."""
LINKS_SECONDS = 30.0
LINKS_REST = 99.0
"""Routes are read this often, and take at most 1 % of a core."""


class Resets(Protocol):
    """The part of ``Dataplane`` that has seen resets leave."""

    def reset_counts(self) -> ResetCounts:
        """Return how many there were."""

    def reset_flows(self) -> ResetFlows:
        """Return the flows that are remembered."""


class OrphanCounter(Worker):
    """Counts by pool and kind, and has reports name some; ``named`` gives the next report's.

    ``resets`` gives the data plane, under its lock, to a function. It also finds the interfaces by
    which answers leave.
    """

    def __init__(
        self,
        facts: SharedFacts,
        resets: Callable[[Callable[[Resets], object]], object],
        has_sockets: Callable[[FlowColumns], NDArray[np.bool_]] = have_sockets,
        read_links: Callable[[], tuple[str, ...]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("orphans")
        self._facts = facts
        self._resets = resets
        self._has_sockets = has_sockets
        self._read_links = read_links or _read_links
        self._clock = clock
        self._outbox = Outbox()
        self._total: Counter[tuple[str, str]] = Counter()
        self._sorter: Sorter | None = None
        self._first = 0
        self._until_ns = 0
        self._rest_until = float("-inf")
        self._links_at = float("-inf")

    def named(self, now: float) -> tuple[FlowName, ...]:
        """Return the orphans that a report of now (monotonic) names. From any thread."""
        with self.requested:
            return self._outbox.choose(now)

    def step(self) -> float:
        """Look for new flows; return how long to pause before the next look."""
        now = self._clock()
        if now >= self._links_at:
            self._find_links(now)
        steering = self._facts.current.steering
        if steering is not None and now >= self._rest_until:
            began = time.thread_time()
            if self._look(steering):
                took = time.thread_time() - began
                rest = min(MOST_REST_SECONDS, max(LEAST_REST_SECONDS, REST * took))
                self._rest_until = self._clock() + rest
        return LOOK_SECONDS

    def _find_links(self, now: float) -> None:
        began = time.thread_time()
        try:
            self._facts.update(answer_links=self._read_links())
        except OSError as error:
            structlog.get_logger().warning("cannot read routes", reason=str(error))
        self._links_at = now + max(LINKS_SECONDS, LINKS_REST * (time.thread_time() - began))

    def _look(self, steering: Steering) -> bool:
        """Count what is new; return whether there was something."""
        found = self._new()
        if found is not None:
            self._count(flows_of(found.flows), steering)
        elif self._facts.current.orphans_total.keys() == self._keys(steering):
            return False
        self._facts.update(
            orphans_total={key: self._total[key] for key in sorted(self._keys(steering))}
        )
        return found is not None

    def _keys(self, steering: Steering) -> set[tuple[str, str]]:
        """Return what is counted, and what is 0: a rate needs it before the first."""
        return {(pool, kind.value) for pool in steering.pools for kind in KINDS} | {*self._total}

    def _new(self) -> ResetFlows | None:
        """Return the flows that came since the last time, ``None`` for none."""
        until = time.monotonic_ns() - GUARD_NS

        def read(plane: Resets) -> ResetFlows | None:
            first = plane.reset_counts().first
            if first == self._first:
                return None
            self._first = first
            return plane.reset_flows()

        flows = self._resets(read)
        if not isinstance(flows, ResetFlows):
            return None
        found = flows.between(self._until_ns, until)
        if len(flows.at) and int(flows.at.max()) > until:
            self._first = -1  # the youngest wait for the next look
        self._until_ns = until
        return found

    def _count(self, flows: FlowColumns, steering: Steering) -> None:
        if self._sorter is None or self._sorter.steering is not steering:
            self._sorter = Sorter(steering)
        found = orphans_of(self._without_sockets(flows), self._sorter, self._clock())
        self._total.update((orphan.pool, orphan.kind.value) for orphan in found)
        with self.requested:
            self._outbox.add(FlowName(orphan.pool, orphan.hash) for orphan in found)

    def _without_sockets(self, flows: FlowColumns) -> FlowColumns:
        """Return those that have no socket here: one in TIME-WAIT is of a closed connection."""
        try:
            return flows.chosen(~self._has_sockets(flows))
        except OSError as error:
            structlog.get_logger().warning("cannot ask for sockets", reason=str(error))
            return flows


def _read_links() -> tuple[str, ...]:
    with RouteSocket() as netlink:
        return answer_links(netlink)
