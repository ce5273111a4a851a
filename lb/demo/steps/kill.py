"""Kill: a machine dies. It loses its own connections, and nobody loses another."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from lb.demo import experiment, plan
from lb.demo.experiment import Experiment
from lb.demo.results import StepResult
from lb.demo.site.site import Site
from lb.demo.stage import Stage
from netns.brigade import dip, server_name
from netns.polling import wait_until

TABLE_SECONDS_MAX = 2.0
WAIT_SECONDS = 20.0
ENDPOINTS = re.compile(r"(\d+(?:\.\d+){3}):(\d+)\s+(\d+(?:\.\d+){3}):(\d+)")


def kill(stage: Stage) -> list[StepResult]:
    """Kill one server: its link first, then its processes."""
    victim = plan.NEWCOMER if plan.NEWCOMER in stage.serving() else stage.serving()[-1]
    name = server_name(victim)
    stage.narrator.step(f"kill: {name} loses power while connections are open")
    stage.rest()
    death = _Death(stage, victim)
    outcomes = experiment.run(stage, (plan.WEB,), death.event)
    outcome = outcomes[plan.WEB]
    result = outcome.fill(StepResult("kill"))
    others = [flow for flow in outcome.broken if flow.flow not in death.expected]
    result.broken_expected = len(death.expected)
    result.more = {
        "table_seconds": round(death.table_seconds, 3),
        "route_seconds": round(death.route_seconds, 3),
        "broken_unexpected": len(others),
    }
    amounts = stage.amounts
    result.promise(outcome.before.tcp >= amounts.tcp, f"only {outcome.before.tcp} TCP were open")
    result.promise(outcome.before.udp >= amounts.udp, f"only {outcome.before.udp} UDP were open")
    result.promise(bool(death.expected), f"{name} had no connection to lose")
    result.promise(not others, f"{len(others)} others broke: {experiment.listed(others)}")
    result.promise(
        death.table_seconds <= TABLE_SECONDS_MAX,
        f"it took {death.table_seconds:.2f} s until no agent's table had {name}",
    )
    result.shown = (
        f"{len(outcome.broken)} broken, {len(death.expected)} were on {name}; out of every "
        f"agent's table in {death.table_seconds:.2f} s, off the router in "
        f"{death.route_seconds:.2f} s"
    )
    return [result]


class _Death:
    """The event: what was lost, and how long it took everybody to notice."""

    def __init__(self, stage: Stage, victim: int) -> None:
        self._stage = stage
        self._victim = victim
        self.expected: frozenset[str] = frozenset()
        self.table_seconds = 0.0
        self.route_seconds = 0.0

    def event(self, running: Experiment) -> None:
        """Note what the server has, let it die, and time what follows."""
        site, name = self._stage.site, server_name(self._victim)
        # Sockets of UDP flows that ended a while ago are listed as well: only open ones can break.
        self.expected = connections(site, self._victim) & running.names()
        self._stage.narrator.say(f"ss lists {len(self.expected)} open connections on {name}")
        begun = time.monotonic()
        site.kill_server(self._victim)
        survivors = site.alive()
        with self._stage.narrator.doing(f"waiting until nobody counts on {name}"):
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
        site.await_equal((plan.WEB,), self._stage.serving(), WAIT_SECONDS)


def _is_out(site: Site, server: str, survivors: Sequence[str]) -> bool:
    pools = (plan.WEB, plan.PLAIN)
    return all(
        not site.fleet.in_any_chain(pool, server) and site.fleet.is_settled(pool, survivors)
        for pool in pools
    )


def connections(site: Site, number: int) -> frozenset[str]:
    """Return the flows that `ss` lists on a server, named by protocol and client."""
    found = set()
    for protocol, option in (("tcp", "-t"), ("udp", "-u")):
        states = ["state", "connected", "exclude", "time-wait"]
        listing = site.server(number).run(["ss", "-H", "-n", option, *states]).stdout
        for local, _port, peer, peer_port in ENDPOINTS.findall(listing):
            if local == str(plan.WEB_VIP) and peer != local:
                found.add(f"{protocol} {peer}:{peer_port}")
    return frozenset(found)
