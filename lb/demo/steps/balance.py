"""Balance: three servers of capacity 1:2:4, which nobody told the controller.

Measured is how busy each server's work service was, by its own count. First without a controller,
with the equal shares that every pool starts with; then with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError
from lb.demo import plan
from lb.demo.results import StepResult
from lb.demo.site.site import WORK_UNIT_MS, Site
from lb.demo.stage import Stage
from lb.demo.traffic.cohort import TrafficProcess
from lb.demo.traffic.verdicts import max_over_mean
from netns.brigade import server_name

OFFERED_UNITS = 2.6
"""Work offered in each second, in units of the smallest server: equal shares leave it at 87 %."""
WARM_UP_SECONDS = 2.0
SAMPLE_SECONDS = 0.5
BALANCED_WITHIN_SECONDS = 60.0
FROZEN_AT_LEAST = 1.4
BALANCED_AT_MOST = 1.10
SATURATED = 0.97
STOP_SECONDS = 5.0
COUNT_SECONDS = 10.0
CONFIRMATIONS = 3
"""Windows in a row that have to be balanced, each half a second later than the one before."""


@dataclass(frozen=True)
class Sample:
    """Busy seconds of each server at one moment."""

    at: float
    busy: Mapping[str, float]


def sample(site: Site) -> Sample:
    """Read the counters of the work services."""
    busy = {server_name(number): site.busy_seconds(number) for number in plan.CAPACITIES}
    return Sample(time.monotonic(), busy)


def utilisation(first: Sample, last: Sample) -> dict[str, float]:
    """Return busy time over time, by server."""
    seconds = last.at - first.at
    return {name: (last.busy[name] - first.busy[name]) / seconds for name in last.busy}


def balance(stage: Stage) -> list[StepResult]:
    """Measure without a controller, then with it."""
    missing = [number for number in plan.CAPACITIES if number not in stage.serving()]
    if missing:
        raise BrigadeError(f"balance needs servers {missing}, which do not run")
    capacities = ":".join(f"{capacity:g}" for capacity in plan.CAPACITIES.values())
    stage.narrator.step(f"balance: servers of capacity {capacities}, told to nobody")
    stage.rest()
    site = stage.site
    rate = OFFERED_UNITS / (WORK_UNIT_MS / 1000)
    site.await_equal((plan.WORK,), list(plan.CAPACITIES), BALANCED_WITHIN_SECONDS)
    site.control.stop(STOP_SECONDS)
    site.work_balance = "load"
    arguments = ["--vip", str(plan.WORK_VIP), "--port", str(plan.WORK_PORT)]
    arguments += ["--flows", str(stage.amounts.work_flows), "--rate", str(rate)]
    traffic = TrafficProcess(site.client, "lb.demo.site.load", arguments, "load")
    try:
        frozen = _frozen(stage)
        site.start_controller()
        running = _running(stage)
        traffic.tell("count")
        counts = traffic.expect("count", COUNT_SECONDS)
        running.more["requests"] = counts
    finally:
        traffic.process.stop()
    return [frozen, running]


def _frozen(stage: Stage) -> StepResult:
    window = stage.amounts.frozen_window_seconds
    with stage.narrator.doing("the controller is stopped; measuring"):
        time.sleep(WARM_UP_SECONDS)
        first = sample(stage.site)
        time.sleep(window)
        used = utilisation(first, sample(stage.site))
    result = StepResult("balance_frozen", control=True, seconds=window)
    ratio = max_over_mean(list(used.values()))
    result.more = {"max_over_mean": round(ratio, 3), "utilisation": _rounded(used)}
    result.promise(ratio >= FROZEN_AT_LEAST, f"max/mean was only {ratio:.2f}")
    result.shown = f"max/mean {ratio:.2f}"
    stage.findings.frozen_utilisation = _rounded(used)
    stage.narrator.bars("busy, equal shares, without a controller:", used)
    return result


def _running(stage: Stage) -> StepResult:
    begun = time.monotonic()
    with stage.narrator.doing("the controller runs; waiting for balance"):
        used = _await_balance(stage, begun)
    seconds = time.monotonic() - begun
    result = StepResult("balance", seconds=seconds)
    ratio = max_over_mean(list(used.values()))
    shares = stage.site.fleet.shares(plan.WORK)
    result.more = {"max_over_mean": round(ratio, 3), "utilisation": _rounded(used)}
    result.promise(ratio <= BALANCED_AT_MOST, f"max/mean was still {ratio:.2f} after a minute")
    saturated = [name for name, value in used.items() if value >= SATURATED]
    result.promise(not saturated, f"saturated: {', '.join(saturated)}")
    held = ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items()))
    result.shown = f"max/mean {ratio:.2f} after {seconds:.0f} s; shares {held}"
    stage.findings.utilisation = _rounded(used)
    stage.findings.shares = _rounded(shares)
    stage.narrator.bars("busy, shares by load:", used)
    return result


def _await_balance(stage: Stage, begun: float) -> dict[str, float]:
    """Return the utilisation of the last of some balanced windows, or of the last in time."""
    window = stage.amounts.balance_window_seconds
    samples = deque([sample(stage.site)])
    balanced = 0
    while True:
        time.sleep(SAMPLE_SECONDS)
        samples.append(sample(stage.site))
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
