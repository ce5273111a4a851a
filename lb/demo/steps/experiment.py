"""An event with connections open before, during and after it, and their outcome.

Before the event, a cohort of flows is opened to each VIP of the experiment. When the event has
begun, a second cohort of the same size is opened. After the event, every flow is completed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.steps.context import StepContext
from lb.demo.traffic.cohort import BrokenFlow, Cohort, Count

OPEN_OVER_SECONDS = 0.5
NEWCOMERS_OVER_SECONDS = 2.0
VIPS = {
    scenario.WEB: scenario.WEB_VIP,
    scenario.PLAIN: scenario.PLAIN_VIP,
    scenario.DAILY: scenario.DAILY_VIP,
}
SHOW_BROKEN = 5


@dataclass
class PoolOutcome:
    """The outcome of the flows to the VIP of one pool."""

    before: Count
    after: Count
    broken: tuple[BrokenFlow, ...]
    seconds: float
    daisy_chained: int

    def fill(self, result: StepResult) -> StepResult:
        """Copy the numbers to a result."""
        result.tcp_open, result.udp_open = self.before.tcp, self.before.udp
        result.tcp_after, result.udp_after = self.after.tcp, self.after.udp
        result.broken = len(self.broken)
        result.seconds = self.seconds
        result.daisy_chained = self.daisy_chained
        return result


@dataclass
class Experiment:
    """A running experiment. The function of the event calls `open_newcomers` during the event."""

    context: StepContext
    pools: Sequence[str]
    cohorts: dict[str, list[Cohort]] = field(default_factory=dict)
    newcomers: list[Cohort] = field(default_factory=list)

    def cohort(self, pool: str, name: str, over_seconds: float) -> Cohort:
        """Start to open a cohort to the VIP of a pool."""
        amounts, site = self.context.amounts, self.context.site
        arguments = [
            f"--downloads={amounts.downloads}",
            f"--idle={amounts.idle}",
            f"--udp={amounts.udp}",
            f"--udp-source-port={site.take_udp_ports(amounts.udp)}",
            f"--over-seconds={over_seconds}",
            *(f"--file={path}" for path in site.files),
        ]
        vip: IPv4Address = VIPS[pool]
        cohort = Cohort(site.client, vip, f"traffic-{pool}-{name}", arguments)
        self.cohorts.setdefault(pool, []).append(cohort)
        return cohort

    def names(self) -> frozenset[str]:
        """Return the names of all flows that are open and not broken: protocol, address, port."""
        cohorts = [cohort for cohorts in self.cohorts.values() for cohort in cohorts]
        return frozenset().union(*(cohort.names() for cohort in cohorts))

    def open_newcomers(self) -> None:
        """Open the second cohort, now that the event has begun."""
        self.newcomers = [self.cohort(pool, "after", NEWCOMERS_OVER_SECONDS) for pool in self.pools]

    def await_newcomers(self) -> None:
        """Wait until the flows of the second cohort are open, unless that was done already."""
        while self.newcomers:
            self.newcomers.pop().wait_open()


Event = Callable[[Experiment], None]
"""The event: it runs while the flows are open."""


def run(context: StepContext, pools: Sequence[str], event: Event) -> dict[str, PoolOutcome]:
    """Open flows, run the event, complete the flows, and return the outcome by pool."""
    experiment = Experiment(context, pools)
    with context.progress.task(f"opening flows to {' and '.join(pools)}"):
        first = [experiment.cohort(pool, "before", OPEN_OVER_SECONDS) for pool in pools]
        for cohort in first:
            cohort.wait_open()
    before = {pool: _count(experiment, pool) for pool in pools}
    for pool, count in before.items():
        context.progress.log(f"{pool}: {count.tcp} TCP and {count.udp} UDP flows are open")
    chained = context.site.counters.daisy_chained()
    begun = time.monotonic()
    event(experiment)
    seconds = time.monotonic() - begun
    experiment.await_newcomers()
    time.sleep(context.amounts.hold_seconds)
    after = {pool: _count(experiment, pool) for pool in pools}
    with context.progress.task("completing every flow"):
        broken = _finish(experiment)
    chained = context.site.counters.daisy_chained() - chained
    return {
        pool: PoolOutcome(before[pool], after[pool], broken[pool], seconds, chained)
        for pool in pools
    }


def _count(experiment: Experiment, pool: str) -> Count:
    counts = [cohort.count() for cohort in experiment.cohorts[pool]]
    return sum(counts[1:], counts[0])


def _finish(experiment: Experiment) -> dict[str, tuple[BrokenFlow, ...]]:
    for cohorts in experiment.cohorts.values():
        for cohort in cohorts:
            cohort.finish()
    return {
        pool: tuple(flow for cohort in cohorts for flow in cohort.verdict().broken)
        for pool, cohorts in experiment.cohorts.items()
    }


def judge(context: StepContext, name: str, outcome: PoolOutcome) -> StepResult:
    """Return the result of a step in which no flow may break."""
    result = outcome.fill(StepResult(name))
    amounts = context.amounts
    result.promise(outcome.before.tcp >= amounts.tcp, f"only {outcome.before.tcp} TCP were open")
    result.promise(outcome.before.udp >= amounts.udp, f"only {outcome.before.udp} UDP were open")
    result.promise(outcome.after.tcp >= 2 * amounts.tcp, f"only {outcome.after.tcp} TCP at the end")
    result.promise(outcome.after.udp >= 2 * amounts.udp, f"only {outcome.after.udp} UDP at the end")
    result.promise(not outcome.broken, f"{len(outcome.broken)} broken: {listed(outcome.broken)}")
    result.shown = (
        f"{outcome.after.tcp} TCP and {outcome.after.udp} UDP flows at the end, "
        f"{len(outcome.broken)} broken, {outcome.daisy_chained} packets daisy-chained"
    )
    return result


def judge_control(name: str, outcome: PoolOutcome) -> StepResult:
    """Return the result of a control, in which flows must break."""
    result = outcome.fill(StepResult(name, control=True))
    # The packets that were passed on belong to the pool with daisy chaining.
    result.daisy_chained = 0
    result.promise(bool(outcome.broken), "no flow broke without daisy chaining")
    result.shown = f"{len(outcome.broken)} broken without daisy chaining"
    return result


def listed(flows: Sequence[BrokenFlow]) -> str:
    """Return some of the flows as text."""
    more = f" and {len(flows) - SHOW_BROKEN} more" if len(flows) > SHOW_BROKEN else ""
    return ", ".join(str(flow) for flow in flows[:SHOW_BROKEN]) + more
