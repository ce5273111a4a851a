"""A process that holds many flows and reads commands from its standard input.

It opens its flows, and prints `{"event": "open"}` when each of them is open or broken. Then it
reads commands: `count` prints how many flows are open and not broken, `names` prints which;
`finish` completes each flow and prints the verdict. The process ends at the end of its input.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import resource
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from lb.demo.traffic.flows import Download, Flow, Idle, Short, Target, UdpFlow
from lb.demo.traffic.verdicts import Outcome

MAX_WAIT_SECONDS = 0.25
INPUT_BYTES = 4096


class FlowSchedule:
    """The flows of one process, and the time of the next visit of each."""

    def __init__(self, flows: Sequence[Flow], over_seconds: float, now: float) -> None:
        self.flows = list(flows)
        self._order = itertools.count()
        step = over_seconds / max(1, len(flows))
        self._due = [(now + n * step, next(self._order), flow) for n, flow in enumerate(flows)]
        heapq.heapify(self._due)

    def visit_due(self, now: float) -> float:
        """Visit the flows that are due, and return the time of the next visit."""
        while self._due and self._due[0][0] <= now:
            _at, _order, flow = heapq.heappop(self._due)
            delay = flow.visit(now)
            if not flow.ended:
                heapq.heappush(self._due, (now + delay, next(self._order), flow))
            now = time.monotonic()
        return self._due[0][0] if self._due else now + MAX_WAIT_SECONDS

    def finish(self, now: float) -> None:
        """Make every flow finish, from now on."""
        remaining = [flow for flow in self.flows if not flow.ended]
        for flow in remaining:
            flow.finish()
        self._due = [(now, next(self._order), flow) for flow in remaining]

    def note(self, command: str) -> None:
        """Take another command. Raises ``ValueError``: there is none of this name."""
        raise ValueError(f"unknown command {command!r}")

    @property
    def is_open(self) -> bool:
        """Whether each flow is open, or has ended."""
        return all(flow.opened or flow.ended for flow in self.flows)

    @property
    def has_ended(self) -> bool:
        """Whether each flow has ended."""
        return all(flow.ended for flow in self.flows)

    def count(self) -> dict[str, int]:
        """Return how many flows are open and not broken, by protocol, and how many are broken."""
        good = self._good()
        return {
            "tcp": sum(flow.protocol == "tcp" for flow in good),
            "udp": sum(flow.protocol == "udp" for flow in good),
            "broken": sum(flow.outcome is not Outcome.GOOD for flow in self.flows),
        }

    def names(self) -> dict[str, str]:
        """Return the server of each flow that is open and not broken, by flow name."""
        return {flow.name: flow.server for flow in self._good()}

    def _good(self) -> list[Flow]:
        return [f for f in self.flows if f.opened and not f.ended and f.outcome is Outcome.GOOD]

    def verdict(self) -> dict[str, Any]:
        """Return the number of flows, and the broken ones."""
        broken = [flow for flow in self.flows if flow.outcome is not Outcome.GOOD]
        return {
            "flows": len(self.flows),
            "broken": [
                {
                    "flow": flow.name,
                    "kind": flow.kind,
                    "server": flow.server,
                    "outcome": flow.outcome.value,
                }
                for flow in broken
            ],
        }


class Commands:
    """Reads lines from a file descriptor, with a timeout."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def wait(self, seconds: float) -> list[str] | None:
        """Return the lines that arrive within this time; None at the end of the input."""
        readable, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not readable:
            return []
        data = os.read(self._descriptor, INPUT_BYTES)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode() for line in lines]


def serve(schedule: FlowSchedule, commands: Commands) -> None:
    """Visit flows and execute commands until the verdict is printed."""
    reported_open = finishing = False
    while True:
        next_at = schedule.visit_due(time.monotonic())
        if not reported_open and schedule.is_open:
            reported_open = True
            _print_event({"event": "open", **schedule.count()})
        if finishing and schedule.has_ended:
            _print_event({"event": "verdict", **schedule.verdict()})
            return
        lines = commands.wait(min(MAX_WAIT_SECONDS, next_at - time.monotonic()))
        if lines is None:
            return
        for line in lines:
            if line == "count":
                _print_event({"event": "count", **schedule.count()})
            elif line == "names":
                _print_event({"event": "names", "names": schedule.names()})
            elif line == "finish":
                finishing = True
                schedule.finish(time.monotonic())
            else:
                schedule.note(line)


def _print_event(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 (the demo reads it)


def make_flows(options: argparse.Namespace) -> list[Flow]:
    """Create the flows that the command line asks for, with all kinds mixed."""
    web, echo = (Target(options.vip, port) for port in (options.tcp_port, options.udp_port))
    flows: list[Flow] = []
    flows += [Download(web, options.file[n % len(options.file)]) for n in range(options.downloads)]
    flows += [Idle(web, options.page) for _ in range(options.idle)]
    flows += [Short(web, options.page) for _ in range(options.short)]
    flows += [UdpFlow(echo, options.udp_source_port + n) for n in range(options.udp)]
    random.Random(len(flows)).shuffle(flows)  # noqa: S311 (an order, not a secret)
    return flows


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    The kernel may give a new UDP flow the port of an earlier one. A server that still has the
    earlier flow's connected socket then takes the new flow, although its bucket moved long ago.
    """
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--vip", required=True)
    made.add_argument("--tcp-port", type=int, default=80)
    made.add_argument("--udp-port", type=int, default=7000)
    made.add_argument(
        "--udp-source-port", type=int, help="source port of the first UDP flow; needed with --udp"
    )
    made.add_argument("--file", action="append", default=[], help="URL path of a file")
    made.add_argument("--page", default="/hello", help="URL path of a small page")
    for kind in ("downloads", "idle", "short", "udp"):
        made.add_argument(f"--{kind}", type=int, default=0, help="number of flows")
    made.add_argument(
        "--over-seconds", type=float, default=0.5, help="time over which to open the flows"
    )
    options = made.parse_args(arguments)
    if options.udp and not options.udp_source_port:
        made.error("--udp needs --udp-source-port: ports that no earlier flow had")
    return options


def main() -> None:
    """Run as `python -m lb.demo.traffic.generator`."""
    options = read_options()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    schedule = FlowSchedule(make_flows(options), options.over_seconds, time.monotonic())
    serve(schedule, Commands(sys.stdin.fileno()))


if __name__ == "__main__":
    main()
