"""Kill: a machine fails. Only its own connections break."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from ipaddress import IPv4Address

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site.site import Site
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.steps.experiment import Experiment
from netns.brigade import dip, server_name
from netns.polling import wait_until

TABLE_SECONDS_MAX = 2.0
WAIT_SECONDS = 20.0
ENDPOINTS = re.compile(r"(\d+(?:\.\d+){3}):(\d+)\s+(\d+(?:\.\d+){3}):(\d+)")


def kill(context: StepContext) -> list[StepResult]:
    """Kill one server: first its link, then its processes."""
    victim = scenario.NEWCOMER if scenario.NEWCOMER in context.serving() else context.serving()[-1]
    name = server_name(victim)
    context.progress.heading(f"kill: {name} loses power while connections are open")
    context.restore_equal_shares()
    failure = _Failure(context, victim)
    outcomes = experiment.run(context, (scenario.WEB,), failure.event)
    outcome = outcomes[scenario.WEB]
    result = outcome.fill(StepResult("kill"))
    others = [flow for flow in outcome.broken if flow.flow not in failure.expected]
    result.broken_expected = len(failure.expected)
    result.more = {
        "table_seconds": round(failure.table_seconds, 3),
        "route_seconds": round(failure.route_seconds, 3),
        "broken_unexpected": len(others),
    }
    amounts = context.amounts
    result.promise(outcome.before.tcp >= amounts.tcp, f"only {outcome.before.tcp} TCP were open")
    result.promise(outcome.before.udp >= amounts.udp, f"only {outcome.before.udp} UDP were open")
    result.promise(bool(failure.expected), f"{name} had no connections")
    result.promise(not others, f"{len(others)} other flows broke: {experiment.listed(others)}")
    result.promise(
        failure.table_seconds <= TABLE_SECONDS_MAX,
        f"it took {failure.table_seconds:.2f} s until no agent's table had {name}",
    )
    result.shown = (
        f"{len(outcome.broken)} broken, {len(failure.expected)} were on {name}; out of every "
        f"agent's table in {failure.table_seconds:.2f} s, off the router in "
        f"{failure.route_seconds:.2f} s"
    )
    return [result]


class _Failure:
    """The event: the connections that it breaks, and the time until the others react."""

    def __init__(self, context: StepContext, victim: int) -> None:
        self._context = context
        self._victim = victim
        self.expected: frozenset[str] = frozenset()
        self.table_seconds = 0.0
        self.route_seconds = 0.0

    def event(self, running: Experiment) -> None:
        """List the connections of the server, kill it, and measure the reaction times."""
        site, name = self._context.site, server_name(self._victim)
        # `ss` also lists sockets of UDP flows that have ended; only open flows can break.
        self.expected = connections(site, self._victim) & running.names()
        self._context.progress.log(f"ss lists {len(self.expected)} open connections on {name}")
        begun = time.monotonic()
        site.kill_server(self._victim)
        survivors = site.alive()
        with self._context.progress.task(f"waiting until nobody uses {name}"):
            gateway = str(dip(self._victim))
            wait_until(
                lambda: gateway not in site.routed(),
                f"the router's route is without {name}",
                WAIT_SECONDS,
            )
            self.route_seconds = time.monotonic() - begun
            wait_until(
                lambda: _is_out(site, name, survivors),
                f"every agent's tables are without {name}",
                WAIT_SECONDS,
            )
            self.table_seconds = time.monotonic() - begun
        running.open_newcomers()
        site.await_equal((scenario.WEB,), self._context.serving(), WAIT_SECONDS)


def _is_out(site: Site, server: str, survivors: Sequence[str]) -> bool:
    pools = (scenario.WEB, scenario.PLAIN)
    return all(
        not site.store.in_any_chain(pool, server) and site.store.is_settled(pool, survivors)
        for pool in pools
    )


def connections(site: Site, number: int, vip: IPv4Address = scenario.WEB_VIP) -> frozenset[str]:
    """Return the flows that `ss` lists on a server: protocol, address and port of the client."""
    found = set()
    for protocol, option in (("tcp", "-t"), ("udp", "-u")):
        states = ["state", "connected", "exclude", "time-wait"]
        listing = site.server(number).run(["ss", "-H", "-n", option, *states]).stdout
        for local, _port, peer, peer_port in ENDPOINTS.findall(listing):
            if local == str(vip) and peer != local:
                found.add(f"{protocol} {peer}:{peer_port}")
    return frozenset(found)
