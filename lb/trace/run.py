"""`lbctl trace`: compiles programs, swaps them in, reads, and always swaps them out again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice

from controlplane.domain.errors import BrigadeError, ConfigError
from lb.agent.attach import trace_swap
from lb.agent.config import AgentConfig
from lb.agent.documents.last_good import load_last_good
from lb.agent.machine.lock import interface_lock
from lb.agent.machine.signals import signals_handled
from lb.agent.netlink.links import find_link
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.watch.preflight import check_root
from lb.dataplane.pinned import PinnedDataplane
from lb.dataplane.traced import TracedPrograms, check_sources
from lb.trace.event import Event, NameOf, read_event
from lb.trace.explain import Explainer, Place
from lb.trace.filters import Filter

ROLE = "trace"
WAIT_SECONDS = 0.1
LOOK_SECONDS = 1.0

Show = Callable[[Event, Place | None, NameOf], None]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """When a trace ends by itself."""

    count: int
    seconds: float


@contextmanager
def _place(config: AgentConfig) -> Iterator[tuple[RouteSocket, int]]:
    """Lock the interface for this trace; yield a netlink socket and the interface's index."""
    check_root("trace")
    with interface_lock(config.interface, ROLE), RouteSocket() as netlink:
        link = find_link(netlink, config.interface)
        if link is None:
            raise ConfigError(f"interface: there is no interface {config.interface}: see `ip link`")
        yield netlink, link.index


def switch_off(config: AgentConfig) -> bool:
    """Remove the programs that a killed trace left; return whether there were any."""
    with signals_handled(lambda _: None), _place(config) as (netlink, index):
        return trace_swap.remove(netlink, index, config)


def _server_names(config: AgentConfig) -> dict[IPv4Address, str]:
    """Return servers' names by DIP; none before the first document."""
    try:
        cluster = load_last_good(config).cluster
    except BrigadeError:
        return {}
    return {server.dip: server.name for server in cluster.servers}


def run_trace(
    config: AgentConfig, wanted: Filter, limits: Limits, show: Show, report: Report
) -> None:
    """Show packets until a limit is reached.

    Raises:
        BrigadeError: no programs, programs of another version, or they were replaced meanwhile.
        KeyboardInterrupt: ended by a signal, after everything was swapped out.

    """
    with ExitStack() as stack:
        signals: list[int] = []  # programs that were swapped in must be swapped out
        stack.enter_context(signals_handled(signals.append))
        netlink, index = stack.enter_context(_place(config))
        if trace_swap.remove(netlink, index, config):
            report("removed what an earlier trace left")
        pins = trace_swap.pins_of(config)
        plane = stack.enter_context(PinnedDataplane(pins))
        check_sources(plane, pins)
        programs = stack.enter_context(TracedPrograms(pins, wanted.defines()))
        trace = Trace(programs, Explainer(plane, _server_names(config)), wanted, signals)
        if not signals:
            with trace_swap.attached(netlink, index, config, programs):
                report(
                    f"tracing {config.interface}: {limits.count} packets or "
                    f"{limits.seconds:g} s, Ctrl-C ends"
                )
                present = trace.run(
                    limits, show, lambda: trace_swap.still_attached(netlink, index, config)
                )
            _report_end(trace.shown, programs.lost(), report, present=present)
        if signals:
            raise KeyboardInterrupt


def _report_end(shown: int, lost: int, report: Report, *, present: bool) -> None:
    missed = f"; {lost} more came too fast to be shown" if lost else ""
    report(f"{shown} packets{missed}")
    if not present:
        raise BrigadeError("the trace ended: the programs were replaced (lbctl up) or detached")


class Trace:
    """Reads the ring and shows the packets that the filter wants, until there are signals."""

    def __init__(
        self,
        programs: TracedPrograms,
        explainer: Explainer,
        wanted: Filter,
        signals: Sequence[int],
    ) -> None:
        self._programs = programs
        self._explainer = explainer
        self._wanted = wanted
        self._signals = signals
        self._boot = time.time() - time.monotonic()
        self.shown = 0

    def run(self, limits: Limits, show: Show, present: Callable[[], bool]) -> bool:
        """Run until a limit, a signal or new programs; return whether ours are still attached."""
        end = time.monotonic() + limits.seconds
        look = 0.0
        while not self._signals and self.shown < limits.count:
            now = time.monotonic()
            if now >= look:
                self._explainer.refresh()
                look = now + LOOK_SECONDS
                if not present():
                    return False
            if now >= end:
                break
            self._programs.ring.wait(min(WAIT_SECONDS, end - now))
            for event in islice(self._events(), limits.count - self.shown):
                flow = event.packet.flow
                show(event, self._explainer.place(flow) if flow else None, self._explainer.name)
                self.shown += 1
        return True

    def _events(self) -> Iterator[Event]:
        events = (read_event(record, self._boot) for record in self._programs.ring.read())
        return (event for event in events if self._wanted.shows(event.counter, event.packet))
