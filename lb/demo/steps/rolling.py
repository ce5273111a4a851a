"""Rolling: all servers are restarted one after the other, twice, with the default settings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site import counters
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.traffic.churn import IS_BACK, LEAVES
from lb.demo.traffic.cohort import BrokenFlow, Cohort, Count
from netns.brigade import server_name

ROUNDS = 2
DRAIN_SECONDS = 120.0
IDLE_PART = 0.4
PLACES = 1.15
"""So many more places than flows that must be open: some are just being opened or completed."""
UDP_PORTS = 12_000
FORCED = "bucket_brigade_controller_hops_forced_total"


@dataclass
class Rolls:
    """What was measured in all restarts."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    open_flows: list[Count] = field(default_factory=list)
    broken: Sequence[BrokenFlow] = ()
    flows: int = 0
    refused: int = 0
    """Drains that a guard refused, until one was accepted."""
    forced: int | None = 0
    """None: the controller does not count them."""
    first_hop: int = 0
    chained: int = 0


def rolling(context: StepContext) -> list[StepResult]:
    """Restart all servers twice in a row."""
    context.progress.heading(f"rolling: every server is restarted, {ROUNDS} times in a row")
    context.use_daily_pool(without=scenario.NEWCOMER, known=False)
    site = context.site
    site.control.stop()
    site.default_timing = True
    site.start_controller()
    rolls = Rolls()
    begun = time.monotonic()
    try:
        _restart_all(context, rolls)
    finally:
        site.control.stop()
        site.default_timing = False
        site.start_controller()
    result = StepResult("rolling", seconds=time.monotonic() - begun)
    judge(result, rolls, context.amounts.churn_tcp, context.amounts.churn_udp)
    return [result]


def judge(result: StepResult, rolls: Rolls, tcp: int, udp: int) -> None:
    """No flow may break, and as many as promised must have been open all the time."""
    result.tcp_open = result.tcp_after = min((c.tcp for c in rolls.open_flows), default=0)
    result.udp_open = result.udp_after = min((c.udp for c in rolls.open_flows), default=0)
    result.broken, result.daisy_chained = len(rolls.broken), rolls.chained
    result.more = {
        "restarts": len(rolls.seconds),
        "flows": rolls.flows,
        "forced_hops": rolls.forced,
        "drains_refused": rolls.refused,
        "first_hop_packets": rolls.first_hop,
        "drain_seconds_max": round(max(rolls.waited, default=0.0), 1),
        "restart_seconds_max": round(max(rolls.seconds, default=0.0), 1),
    }
    result.promise(rolls.forced is not None, "the controller does not count forced hops")
    result.promise(bool(rolls.seconds), "no server was restarted")
    result.promise(result.tcp_open >= tcp, f"only {result.tcp_open} TCP flows were open once")
    result.promise(result.udp_open >= udp, f"only {result.udp_open} UDP flows were open once")
    result.promise(
        not rolls.broken, f"{len(rolls.broken)} broken: {experiment.listed(rolls.broken)}"
    )
    extra = rolls.chained / max(1, rolls.first_hop)
    result.shown = (
        f"{len(rolls.seconds)} restarts under {rolls.flows} flows, {len(rolls.broken)} broken, "
        f"{rolls.forced} hops forced out; {rolls.chained} packets daisy-chained, {extra:.1%} of "
        f"{rolls.first_hop}"
    )


def _restart_all(context: StepContext, rolls: Rolls) -> None:
    site = context.site
    site.await_rounds()
    before = _packets(context)
    cohort = _flows(context)
    with context.progress.task("opening flows of mixed lifetimes"):
        cohort.wait_open()
    rolls.open_flows.append(cohort.count())
    for _ in range(ROUNDS):
        for number in context.serving():
            _restart(context, number, cohort, rolls)
            rolls.open_flows.append(cohort.count())
    cohort.finish()
    verdict = cohort.verdict()
    rolls.broken, rolls.flows = verdict.broken, verdict.flows
    # The controller was started for this step: it counts from 0.
    forced = site.controller_metric(FORCED, pool=scenario.DAILY)
    rolls.forced = None if forced is None else int(forced)
    now = _packets(context)
    rolls.first_hop, rolls.chained = (now[n] - before[n] for n in (0, 1))


def _flows(context: StepContext) -> Cohort:
    amounts, site = context.amounts, context.site
    tcp, udp = round(amounts.churn_tcp * PLACES), round(amounts.churn_udp * PLACES)
    idle = round(tcp * IDLE_PART)
    arguments = [
        f"--downloads={tcp - idle}",
        f"--idle={idle}",
        f"--udp={udp}",
        f"--udp-source-port={site.take_udp_ports(UDP_PORTS)}",
        f"--udp-ports={UDP_PORTS}",
        f"--longest={amounts.churn_seconds}",
        *(f"--file={path}" for path in site.files),
    ]
    return Cohort(site.client, scenario.DAILY_VIP, "traffic-rolling", arguments, "churn")


def _packets(context: StepContext) -> tuple[int, int]:
    sums = context.site.counters.read().values()
    first_hop = sum(counters.total(one, counters.FIRST_HOP) for one in sums)
    return first_hop, sum(one[counters.DAISY_CHAINED] for one in sums)


def _restart(context: StepContext, number: int, cohort: Cohort, rolls: Rolls) -> None:
    """Drain, down, up, undrain: as docs/running.md has it."""
    site, name = context.site, server_name(number)
    begun = time.monotonic()
    with context.progress.task(f"{name}: lbctl drain --wait, down, up, undrain"):
        cohort.note(f"{LEAVES} {name}")
        rolls.refused += site.drain(name, DRAIN_SECONDS)
        rolls.waited.append(time.monotonic() - begun)
        context.site.counters.read()
        site.take_down(number)
        started_at = time.time()
        site.start_services(number)
        site.start_agent(number)
        # It gets ready only when its drain is cancelled.
        site.run_lbctl("undrain", name)
        cohort.note(f"{IS_BACK} {name}")
        site.await_ready([number], started_at)
    rolls.seconds.append(time.monotonic() - begun)
