"""Balance: three servers of capacity 1:2:4; the controller does not know the capacities.

The work service of each server counts its busy time. It is measured first without a controller,
with the equal shares that every pool starts with, and then with the controller.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError
from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site.site import WORK_UNIT_MS, Site
from lb.demo.steps.context import StepContext
from lb.demo.traffic.cohort import TrafficProcess
from lb.demo.traffic.verdicts import max_over_mean
from netns.brigade import server_name

OFFERED_UNITS = 2.6
"""Work per second, in units of the smallest server: with equal shares it is busy for 87 %."""
WARM_UP_SECONDS = 2.0
SAMPLE_SECONDS = 0.5
BALANCED_WITHIN_SECONDS = 60.0
FROZEN_AT_LEAST = 1.4
BALANCED_AT_MOST = 1.10
SATURATED = 0.97
STOP_SECONDS = 5.0
COUNT_SECONDS = 10.0
CONFIRMATIONS = 3
"""Consecutive windows that must be balanced, each half a second after the one before."""


@dataclass(frozen=True)
class Sample:
    """Busy seconds of each server at one moment."""

    at: float
    busy: Mapping[str, float]


def sample(site: Site) -> Sample:
    """Read the counters of the work services."""
    busy = {server_name(number): site.busy_seconds(number) for number in scenario.CAPACITIES}
    return Sample(time.monotonic(), busy)


def utilisation(first: Sample, last: Sample) -> dict[str, float]:
    """Return the busy time divided by the time, by server."""
    seconds = last.at - first.at
    return {name: (last.busy[name] - first.busy[name]) / seconds for name in last.busy}


def balance(context: StepContext) -> list[StepResult]:
    """Measure without the controller, then with it."""
    missing = [number for number in scenario.CAPACITIES if number not in context.serving()]
    if missing:
        raise BrigadeError(f"balance needs servers {missing}, which are not running")
    capacities = ":".join(f"{capacity:g}" for capacity in scenario.CAPACITIES.values())
    context.progress.heading(
        f"balance: servers of capacity {capacities}, unknown to the controller"
    )
    context.restore_equal_shares()
    site = context.site
    rate = OFFERED_UNITS / (WORK_UNIT_MS / 1000)
    site.await_equal((scenario.WORK,), list(scenario.CAPACITIES), BALANCED_WITHIN_SECONDS)
    site.control.stop(STOP_SECONDS)
    site.work_balance = "load"
    arguments = ["--vip", str(scenario.WORK_VIP), "--port", str(scenario.WORK_PORT)]
    arguments += ["--flows", str(context.amounts.work_flows), "--rate", str(rate)]
    traffic = TrafficProcess(site.client, "lb.demo.traffic.open_loop", arguments, "load")
    try:
        frozen = _frozen(context)
        site.start_controller()
        running = _running(context)
        traffic.send("count")
        counts = traffic.expect("count", COUNT_SECONDS)
        running.more["requests"] = counts
    finally:
        traffic.process.stop()
    return [frozen, running]


def _frozen(context: StepContext) -> StepResult:
    window = context.amounts.frozen_window_seconds
    with context.progress.task("the controller is stopped; measuring"):
        time.sleep(WARM_UP_SECONDS)
        first = sample(context.site)
        time.sleep(window)
        used = utilisation(first, sample(context.site))
    result = StepResult("balance_frozen", control=True, seconds=window)
    ratio = max_over_mean(list(used.values()))
    result.more = {"max_over_mean": round(ratio, 3), "utilisation": _rounded(used)}
    result.promise(ratio >= FROZEN_AT_LEAST, f"max/mean was only {ratio:.2f}")
    result.shown = f"max/mean {ratio:.2f}"
    context.findings.frozen_utilisation = _rounded(used)
    context.progress.bars("utilisation, equal shares, without a controller:", used)
    return result


def _running(context: StepContext) -> StepResult:
    begun = time.monotonic()
    with context.progress.task("the controller is running; waiting for balance"):
        used = _await_balance(context, begun)
    seconds = time.monotonic() - begun
    result = StepResult("balance", seconds=seconds)
    ratio = max_over_mean(list(used.values()))
    shares = context.site.store.shares(scenario.WORK)
    result.more = {"max_over_mean": round(ratio, 3), "utilisation": _rounded(used)}
    result.promise(ratio <= BALANCED_AT_MOST, f"max/mean was still {ratio:.2f} after a minute")
    saturated = [name for name, value in used.items() if value >= SATURATED]
    result.promise(not saturated, f"saturated: {', '.join(saturated)}")
    held = ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items()))
    result.shown = f"max/mean {ratio:.2f} after {seconds:.0f} s; shares {held}"
    context.findings.utilisation = _rounded(used)
    context.findings.shares = _rounded(shares)
    context.progress.bars("utilisation, shares by load:", used)
    return result


def _await_balance(context: StepContext, begun: float) -> dict[str, float]:
    """Return the utilisation of the last confirmed window, or of the last before the timeout."""
    window = context.amounts.balance_window_seconds
    samples = deque([sample(context.site)])
    balanced = 0
    while True:
        time.sleep(SAMPLE_SECONDS)
        samples.append(sample(context.site))
        while samples[-1].at - samples[1].at >= window:
            samples.popleft()
        if samples[-1].at - samples[0].at < window:
            continue
        used = utilisation(samples[0], samples[-1])
        good = max_over_mean(list(used.values())) <= BALANCED_AT_MOST
        balanced = balanced + 1 if good else 0
        if balanced >= CONFIRMATIONS or time.monotonic() - begun > BALANCED_WITHIN_SECONDS:
            return used


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in sorted(values.items())}
