"""Counts this server's connections again and again, in a thread that no heartbeat waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from controlplane.documents.presence import (
    Dump,
    Mark,
    PoolPresence,
    encode_presence,
    key_id_of,
)
from controlplane.domain.objects import AskedFlow, FlowName
from lb.agent.facts import PresenceFacts, SharedFacts
from lb.agent.report.presence.cookies import CookieAge
from lb.agent.report.presence.dump import Found, take_dump
from lb.agent.report.presence.earlier import EarlierSockets
from lb.agent.report.presence.sorting import Sorter
from lb.agent.report.presence.strays import CAUSES, StrayCount
from lb.agent.worker import Worker
from lb.led_here import Steering

UNCOUNTED = "connections on VIPs cannot be counted ({}): modprobe tcp_diag udp_diag"
MOST_SECONDS = 60.0
LOOK_SECONDS = 0.1
"""How often it looks for what may not wait: a new table, or a new mark."""
QUICK_ANSWERS = 2
"""So many dumps are quick after the controller has asked for another flow."""
QUICK_DUMPS = 4
"""So many dumps after it are quick: two that agree, begun when others have the table, too."""
ORPHAN_SECONDS = 3.0
"""How much longer ago than the question the segment may have had nowhere to go: reports name it for
2 s, and take their time."""
MOST_BODY_BYTES = 64 << 10
"""What a dump adds to a report at most."""


class Pace(NamedTuple):
    """How long to pause after a dump: so many times its CPU time, and at least so long."""

    per_cpu: float
    least_seconds: float

    def pause(self, cpu_seconds: float) -> float:
        """Return the pause after a dump that took this CPU time, in seconds."""
        return min(MOST_SECONDS, max(self.least_seconds, self.per_cpu * cpu_seconds))


QUICK = Pace(33.0, 0.4)
"""3 % of one core, as long as a dump takes at most 1.8 s of CPU time."""
STEADY = Pace(99.0, 1.0)
"""1 % of one core, as long as a dump takes at most 0.6 s."""


class ConnectionCounter(Worker):
    """Dumps the sockets, and puts what it found into the facts, which have the newest mark."""

    def __init__(
        self,
        facts: SharedFacts,
        take: Callable[[Sorter, float, frozenset[AskedFlow]], Found] = take_dump,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("connections")
        self._facts = facts
        self._take = take
        self._clock = clock
        self._cookies = CookieAge()
        self._strays = StrayCount()
        self._sorter: Sorter | None = None
        self._number = 0
        self._by: tuple[Steering | None, Mark | None] = None, None
        self._asked: dict[AskedFlow, float] = {}
        self._earlier = EarlierSockets()
        self._held: frozenset[FlowName] = frozenset()
        self._held_total = 0
        self._quick_left = 0
        self._cost = 0.0
        self._ended = float("-inf")

    def step(self) -> float:
        """Take a dump if one is due; return how long to pause before the next look."""
        known = self._facts.current
        steering, mark = known.steering, known.mark
        if steering is None:
            return LOOK_SECONDS
        if (steering, mark) != self._by:
            self._by = steering, mark
            self._quick_left = QUICK_DUMPS
        if known.asked - self._asked.keys():  # two dumps: one may miss a socket
            self._quick_left = max(self._quick_left, QUICK_ANSWERS)
        now = self._clock()
        self._asked = {flow: self._asked.get(flow, now) for flow in known.asked}
        pace = QUICK if self._quick_left else STEADY
        if self._clock() >= self._ended + pace.pause(self._cost):
            self._quick_left = max(0, self._quick_left - 1)
            began = time.thread_time()
            self._try(steering, mark)
            self._cost = time.thread_time() - began
            self._facts.update(dump_seconds=self._cost)
            self._ended = self._clock()
        return LOOK_SECONDS

    def _try(self, steering: Steering, mark: Mark | None) -> None:
        try:
            self._dump(steering, mark)
        except OSError as error:
            structlog.get_logger().warning("cannot count connections", reason=str(error))
            self._facts.set_trouble("connections", UNCOUNTED.format(error))
        else:
            self._facts.set_trouble("connections", None)

    def _dump(self, steering: Steering, mark: Mark | None) -> None:
        now = self._clock()
        if self._sorter is None or self._sorter.steering is not steering:
            self._sorter = Sorter(steering)
            self._strays.follow(steering, now)
        # Before the dump: it can miss a cookie that becomes a socket meanwhile (docs/adr/0015).
        cookies_age = self._cookies.age(now)
        found = self._take(self._sorter, now, frozenset(self._asked))
        self._note_held(found.held)
        self._earlier.add(found.begun, found.open_cookies)
        newest = self._facts.current.steering
        if newest is None or newest.cluster_generation != steering.cluster_generation:
            return  # sorted by services that are not in use any more
        self._number += 1
        self._strays.add(found, self._sorter)
        dump = Dump(
            self._number,
            mark,
            steering.cluster_generation,
            cookies_age,
            presence_of(found, self._sorter),
        )
        body = encode_presence(dump, MOST_BODY_BYTES)
        self._facts.update(
            connections=found.opened,
            presence=PresenceFacts(dump, body, len(json.dumps(body)), self._clock()),
            strays=self._strays.now,
            strays_total=_with_zeros(self._strays.total, steering),
        )

    def _note_held(self, found: Mapping[FlowName, int]) -> None:
        """Answer for what was found as long as it is asked for.

        Not for a connection that may be newer than the segment: the client may use the port of the
        one before it again.
        """
        older = frozenset(
            flow
            for flow, cookie in found.items()
            if self._earlier.had(cookie, self._asked[flow.asked] - ORPHAN_SECONDS)
        )
        kept = frozenset(flow for flow in self._held if flow.asked in self._asked)
        self._held_total += len(older - kept)
        self._held = kept | older
        self._facts.update(held=tuple(self._held), held_total=self._held_total)


def presence_of(found: Found, sorter: Sorter) -> dict[str, PoolPresence]:
    """Return what a dump found in each pool."""
    pools = {}
    for number, (name, here) in enumerate(sorter.steering.pools.items()):
        first, buckets = int(sorter.offsets[number]), len(here.leads)
        occupied = found.occupied[first : first + buckets]
        connections = int(found.connections[number])
        pools[name] = PoolPresence(key_id_of(here.key), buckets, connections, occupied)
    return pools


def _with_zeros(
    total: Mapping[tuple[str, str], int], steering: Steering
) -> dict[tuple[str, str], int]:
    """Return the counts, 0 for what did not happen yet: a rate needs it before the first."""
    zeros = {(pool, cause.value): 0 for pool in steering.pools for cause in CAUSES}
    return zeros | {(pool, str(cause)): count for (pool, cause), count in total.items()}
