"""A process that holds many flows of mixed lifetimes: each that ends is replaced by a new one.

Lifetimes are between the two limits, with as many flows from 1 to 2 s as from 5 to 10 s
(log-uniform). A part of the flows stays open until its server leaves, and then for one such
lifetime, as with a service that asks its clients to go. At its end, each flow is completed and
judged, as in `generator`, which has the commands and events, too; two more commands are `leaves
SERVER` and `is back SERVER`.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from lb.demo.traffic.flows import Download, Flow, Idle, Target, UdpFlow
from lb.demo.traffic.generator import MAX_WAIT_SECONDS, Commands, FlowSchedule, serve

LEAVES, IS_BACK = "leaves", "is back"
STAYING = 0.4
"""Part of the flows that stays until its server leaves."""

MakeFlow = Callable[[], Flow | None]
"""Makes the next flow of a place, ``None``: this place stays empty."""


class ChurnSchedule(FlowSchedule):
    """Places for flows. ``lifetime`` returns the seconds that the next flow stays open."""

    def __init__(
        self,
        places: Iterable[MakeFlow],
        lifetime: Callable[[], float],
        over_seconds: float,
        now: float,
        stays: Callable[[], bool] = lambda: False,
    ) -> None:
        self._lifetime = lifetime
        self._stays = stays
        self._leaving: set[str] = set()
        self._place: dict[Flow, MakeFlow] = {}
        self._ends: dict[Flow, float] = {}
        self._no_more = False
        super().__init__([flow for place in places if (flow := self._make(place))], 0.0, now)
        step = over_seconds / max(1, len(self.flows))
        self._due = [(now + n * step, next(self._order), flow) for n, flow in enumerate(self.flows)]
        heapq.heapify(self._due)

    def _make(self, place: MakeFlow) -> Flow | None:
        flow = place()
        if flow is not None:
            self._place[flow] = place
        return flow

    def visit_due(self, now: float) -> float:
        """Visit the flows that are due, complete and replace them, return the next visit's time."""
        while self._due and self._due[0][0] <= now:
            _at, _order, flow = heapq.heappop(self._due)
            delay = flow.visit(now)
            if flow.ended:
                self._replace(flow, now)
            else:
                heapq.heappush(self._due, (now + self._age(flow, delay, now), self._next(), flow))
            now = time.monotonic()
        return self._due[0][0] if self._due else now + MAX_WAIT_SECONDS

    def _age(self, flow: Flow, delay: float, now: float) -> float:
        """Complete a flow at the end of its life; return the seconds until its next visit."""
        if not flow.opened or flow.finishing:
            return delay
        if flow not in self._ends:
            self._ends[flow] = math.inf if self._stays() else now + self._lifetime()
        if math.isinf(self._ends[flow]) and flow.server in self._leaving:
            self._ends[flow] = now + self._lifetime()
        left = self._ends[flow] - now
        if left > 0:
            return min(delay, left)
        flow.finish()
        return 0.0

    def note(self, command: str) -> None:
        """Take ``leaves SERVER`` or ``is back SERVER``."""
        what, _, server = command.rpartition(" ")
        if what == LEAVES:
            self._leaving.add(server)
        elif what == IS_BACK:
            self._leaving.discard(server)
        else:
            super().note(command)

    def _replace(self, flow: Flow, now: float) -> None:
        place = self._place.pop(flow)
        self._ends.pop(flow, None)
        new = None if self._no_more else self._make(place)
        if new is not None:
            self.flows.append(new)
            heapq.heappush(self._due, (now, self._next(), new))

    def _next(self) -> int:
        return next(self._order)

    def finish(self, now: float) -> None:
        """Open no more flows, and make every open one finish."""
        self._no_more = True
        super().finish(now)


def log_uniform(source: random.Random, shortest: float, longest: float) -> float:
    """Return a lifetime: each doubling of the time is equally likely."""
    return math.exp(source.uniform(math.log(shortest), math.log(longest)))


def make_places(options: argparse.Namespace) -> list[MakeFlow]:
    """Create the places that the command line asks for, with all kinds mixed."""
    web, echo = Target(options.vip, 80), Target(options.vip, 7000)
    ports = iter(range(options.udp_source_port, options.udp_source_port + options.udp_ports))
    paths = options.file

    def download() -> Flow:
        return Download(web, paths[mixed.randrange(len(paths))])

    def udp() -> Flow | None:
        # A port again would be an old flow for a server that still has its socket.
        port = next(ports, None)
        return None if port is None else UdpFlow(echo, port)

    mixed = random.Random(options.downloads)  # noqa: S311 (an order, not a secret)
    places: list[MakeFlow] = [download] * options.downloads
    places += [lambda: Idle(web, options.page)] * options.idle
    places += [udp] * options.udp
    mixed.shuffle(places)
    return places


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--vip", required=True)
    made.add_argument("--file", action="append", required=True, help="URL path of a file")
    made.add_argument("--page", default="/hello", help="URL path of a small page")
    for kind in ("downloads", "idle", "udp"):
        made.add_argument(f"--{kind}", type=int, default=0, help="number of flows at any time")
    made.add_argument("--udp-source-port", type=int, default=0, help="first port of UDP flows")
    made.add_argument("--udp-ports", type=int, default=0, help="how many ports from there")
    made.add_argument("--shortest", type=float, default=1.0, help="seconds that a flow stays open")
    made.add_argument("--longest", type=float, default=12.0)
    made.add_argument("--over-seconds", type=float, default=2.0)
    return made.parse_args(arguments)


def main() -> None:
    """Run as `python -m lb.demo.traffic.churn`."""
    options = read_options()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    source = random.Random(options.udp)  # noqa: S311 (lifetimes, not secrets)
    schedule = ChurnSchedule(
        make_places(options),
        lambda: log_uniform(source, options.shortest, options.longest),
        options.over_seconds,
        time.monotonic(),
        lambda: source.random() < STAYING,
    )
    serve(schedule, Commands(sys.stdin.fileno()))


if __name__ == "__main__":
    main()
