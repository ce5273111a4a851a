"""An event with connections open before, during and after it, and what became of them.

Before the event a cohort of flows is opened to each VIP in question; when the event has begun, as
many again are opened while it goes on. When it is over, every flow is brought to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from lb.demo import plan
from lb.demo.results import StepResult
from lb.demo.stage import Stage
from lb.demo.traffic.cohort import BrokenFlow, Cohort, Count

OPEN_OVER_SECONDS = 0.5
NEWCOMERS_OVER_SECONDS = 2.0
VIPS = {plan.WEB: plan.WEB_VIP, plan.PLAIN: plan.PLAIN_VIP}
SHOW_BROKEN = 5


@dataclass
class Outcome:
    """What became of the flows to one pool's VIP."""

    before: Count
    after: Count
    broken: tuple[BrokenFlow, ...]
    seconds: float
    daisy_chained: int

    def fill(self, result: StepResult) -> StepResult:
        """Put the numbers into a result."""
        result.tcp_open, result.udp_open = self.before.tcp, self.before.udp
        result.tcp_after, result.udp_after = self.after.tcp, self.after.udp
        result.broken = len(self.broken)
        result.seconds = self.seconds
        result.daisy_chained = self.daisy_chained
        return result


@dataclass
class Experiment:
    """One event under way. The event's function calls `open_newcomers` once it has begun."""

    stage: Stage
    pools: Sequence[str]
    cohorts: dict[str, list[Cohort]] = field(default_factory=dict)
    newcomers: list[Cohort] = field(default_factory=list)

    def cohort(self, pool: str, name: str, over_seconds: float) -> Cohort:
        """Begin to open a cohort to a pool's VIP."""
        amounts, site = self.stage.amounts, self.stage.site
        arguments = [
            f"--downloads={amounts.downloads}",
            f"--idle={amounts.idle}",
            f"--udp={amounts.udp}",
            f"--udp-source-port={self.stage.take_udp_ports(amounts.udp)}",
            f"--over-seconds={over_seconds}",
            *(f"--file={path}" for path in site.files),
        ]
        vip: IPv4Address = VIPS[pool]
        cohort = Cohort(site.client, vip, f"traffic-{pool}-{name}", arguments)
        self.cohorts.setdefault(pool, []).append(cohort)
        return cohort

    def names(self) -> frozenset[str]:
        """Return all flows that are open and well, each by its protocol, address and port."""
        cohorts = [cohort for cohorts in self.cohorts.values() for cohort in cohorts]
        return frozenset().union(*(cohort.names() for cohort in cohorts))

    def open_newcomers(self) -> None:
        """Open as many flows again, now that the event has begun."""
        self.newcomers = [self.cohort(pool, "after", NEWCOMERS_OVER_SECONDS) for pool in self.pools]

    def await_newcomers(self) -> None:
        """Wait until the later flows are open."""
        for cohort in self.newcomers:
            cohort.wait_open()


Event = Callable[[Experiment], None]
"""What happens while the flows are open."""


def run(stage: Stage, pools: Sequence[str], event: Event) -> dict[str, Outcome]:
    """Open flows, let the event happen, finish the flows, and return what became of them."""
    experiment = Experiment(stage, pools)
    with stage.narrator.doing(f"opening flows to {' and '.join(pools)}"):
        first = [experiment.cohort(pool, "before", OPEN_OVER_SECONDS) for pool in pools]
        for cohort in first:
            cohort.wait_open()
    before = {pool: _count(experiment, pool) for pool in pools}
    for pool, count in before.items():
        stage.narrator.say(f"{pool}: {count.tcp} TCP and {count.udp} UDP flows are open")
    chained = stage.site.counters.daisy_chained()
    begun = time.monotonic()
    event(experiment)
    seconds = time.monotonic() - begun
    experiment.await_newcomers()
    time.sleep(stage.amounts.hold_seconds)
    after = {pool: _count(experiment, pool) for pool in pools}
    with stage.narrator.doing("bringing every flow to its end"):
        broken = _finish(experiment)
    chained = stage.site.counters.daisy_chained() - chained
    return {
        pool: Outcome(before[pool], after[pool], broken[pool], seconds, chained) for pool in pools
    }


def _count(experiment: Experiment, pool: str) -> Count:
    counts = [cohort.count() for cohort in experiment.cohorts[pool]]
    return sum(counts[1:], counts[0])


def _finish(experiment: Experiment) -> dict[str, tuple[BrokenFlow, ...]]:
    for cohorts in experiment.cohorts.values():
        for cohort in cohorts:
            cohort.tell_finish()
    return {
        pool: tuple(flow for cohort in cohorts for flow in cohort.verdict().broken)
        for pool, cohorts in experiment.cohorts.items()
    }


def judge(stage: Stage, name: str, outcome: Outcome) -> StepResult:
    """Judge a step in which nothing may break."""
    result = outcome.fill(StepResult(name))
    amounts = stage.amounts
    result.promise(outcome.before.tcp >= amounts.tcp, f"only {outcome.before.tcp} TCP were open")
    result.promise(outcome.before.udp >= amounts.udp, f"only {outcome.before.udp} UDP were open")
    result.promise(outcome.after.tcp >= 2 * amounts.tcp, f"only {outcome.after.tcp} TCP at the end")
    result.promise(outcome.after.udp >= 2 * amounts.udp, f"only {outcome.after.udp} UDP at the end")
    result.promise(not outcome.broken, f"{len(outcome.broken)} broken: {listed(outcome.broken)}")
    result.shown = (
        f"{outcome.after.tcp} TCP and {outcome.after.udp} UDP flows in the end, "
        f"{len(outcome.broken)} broken, {outcome.daisy_chained} packets daisy-chained"
    )
    return result


def judge_control(name: str, outcome: Outcome) -> StepResult:
    """Judge a control, in which something must break."""
    result = outcome.fill(StepResult(name, control=True))
    # The packets that were passed on belong to the pool that chains.
    result.daisy_chained = 0
    result.promise(bool(outcome.broken), "without daisy chaining something must break")
    result.shown = f"{len(outcome.broken)} broken without daisy chaining"
    return result


def listed(flows: Sequence[BrokenFlow]) -> str:
    """Name some flows."""
    more = f" and {len(flows) - SHOW_BROKEN} more" if len(flows) > SHOW_BROKEN else ""
    return ", ".join(str(flow) for flow in flows[:SHOW_BROKEN]) + more
