"""From load to shares: moves each server's share towards the pool's mean load. Pure.

A proportional controller on logarithms: a server at twice the mean and a server at half of it are
equally far off, and shares stay positive. Shares integrate, and the effect of a change is seen late
(a move takes two settled generations, loads are means over a window), so the gain is low: an
integrator of gain ``g`` behind a delay ``d`` does not overshoot while ``g * d`` is below 1/e.

Loads are only compared with each other. Without two loads to compare, shares stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.decide.views import PoolView
from controlplane.domain.objects import SERVING

LONGEST_TICK_SECONDS = 3.0
"""Longer times count as this: a controller that was delayed takes no larger step."""


@dataclass(frozen=True)
class ShareSettings:
    """How shares follow load. Steps are in natural logarithms: 0.05 is about 5 %.

    ``saturated_at``: from this load on, a load only means "too much" (``math.inf`` for loads that
    are not a part of a capacity). ``idle_below``: below this mean load there is only noise.
    ``windup``: how far a share may run ahead of the buckets that a server has (moves may be held
    back or capped).
    """

    gain_per_second: float = 0.07
    max_step_per_second: float = 0.05
    smoothing_seconds: float = 1.5
    dead_band: float = 0.04
    saturated_at: float = 0.97
    idle_below: float = 0.02
    windup: float = 0.4


@dataclass(frozen=True)
class Shares:
    """A pool's shares: ``shares`` is for the builder, the rest is for the next step.

    ``full`` is the share, without slow start, of every server that ever had one; the shares of
    active servers have a mean of 1. ``loads`` are smoothed. ``at`` is the clock of the last step.
    """

    shares: Mapping[int, float] = field(default_factory=dict)
    full: Mapping[int, float] = field(default_factory=dict)
    loads: Mapping[int, float] = field(default_factory=dict)
    at: float | None = None


def adjust(
    before: Shares, view: PoolView, now: float, settings: ShareSettings | None = None
) -> Shares:
    """Return the shares after one more tick. ``now`` is in seconds, always of the same clock.

    - A server without a fresh load keeps its share: unknown is not idle.
    - All saturated, all idle, or fewer than two to compare: nothing changes.
    - A newcomer's full share is the mean, or what it had when it was last in the pool; its ``ramp``
      is the part of that it gets. During slow start, load can only lower it.
    - A saturated server in a pool that is not saturated loses share at the highest allowed rate:
      its load does not show how far above its capacity it is.
    """
    settings = settings or ShareSettings()
    serving = [index for index, state in view.states.items() if state in SERVING]
    full = {index: share for index, share in before.full.items() if index in view.states}
    full |= dict.fromkeys((index for index in serving if index not in full), _mean(full, serving))
    seconds = 0.0 if before.at is None else min(max(now - before.at, 0.0), LONGEST_TICK_SECONDS)
    loads = _smooth(before.loads, view.loads, serving, seconds / settings.smoothing_seconds)
    steps = _steps(loads, view, settings, seconds)
    changed = {index: full[index] * math.exp(step) for index, step in steps.items()}
    changed = _keep_sum(changed, full)
    full |= _without_windup(changed, full, view, serving, settings.windup)
    full = _with_mean_one(full, [i for i in serving if view.ramp(i) >= 1.0])
    shares = {index: full[index] * view.ramp(index) for index in serving}
    return Shares(shares, full, loads, now)


def _mean(full: Mapping[int, float], serving: Collection[int]) -> float:
    known = [full[index] for index in serving if index in full]
    return sum(known) / len(known) if known else 1.0


def _smooth(
    before: Mapping[int, float],
    newest: Mapping[int, float | None],
    serving: Collection[int],
    passed: float,
) -> dict[int, float]:
    """Return exponential means of the fresh loads; ``passed`` is in time constants."""
    weight = 1.0 - math.exp(-passed)
    smoothed = {}
    for index in serving:
        load = newest.get(index)
        if load is not None and math.isfinite(load) and load >= 0:
            mean = before.get(index, load)
            smoothed[index] = mean + weight * (load - mean)
    return smoothed


def _steps(
    loads: Mapping[int, float], view: PoolView, settings: ShareSettings, seconds: float
) -> dict[int, float]:
    """Return the logarithm of each change, for the servers whose loads can be compared."""
    compared = [load for index, load in loads.items() if view.ramp(index) >= 1.0]
    if len(compared) < 2:  # noqa: PLR2004 - one alone cannot be compared
        return {}
    mean = sum(compared) / len(compared)
    if mean < settings.idle_below or min(compared) >= settings.saturated_at or mean == 0:
        return {}
    most = settings.max_step_per_second * seconds
    steps = {}
    for index, load in loads.items():
        off = math.log(mean / max(load, mean / 100))
        step = min(max(off * settings.gain_per_second * seconds, -most), most)
        if load >= settings.saturated_at:
            step = -most
        elif abs(off) <= settings.dead_band:
            step = 0.0
        steps[index] = step if view.ramp(index) >= 1.0 else min(step, 0.0)
    return steps if any(steps.values()) else {}


def _keep_sum(changed: Mapping[int, float], full: Mapping[int, float]) -> dict[int, float]:
    """Scale the changed shares to their sum before, so that the others keep their meaning."""
    if not changed:
        return {}
    scale = sum(full[index] for index in changed) / sum(changed.values())
    return {index: share * scale for index, share in changed.items()}


def _without_windup(
    changed: Mapping[int, float],
    full: Mapping[int, float],
    view: PoolView,
    serving: Collection[int],
    windup: float,
) -> dict[int, float]:
    """Keep shares near the buckets that servers have; a share that is off may come back."""
    held = {index: view.current.get(index, 0) for index in serving}
    parts = sum(full[index] * view.ramp(index) for index in serving)
    total = sum(held.values())
    kept = {}
    for index, share in changed.items():
        if held[index] > 0 and view.ramp(index) >= 1.0:
            stands_for = held[index] / total * parts
            low = min(full[index], stands_for * math.exp(-windup))
            high = max(full[index], stands_for * math.exp(windup))
            kept[index] = min(max(share, low), high)
        else:
            kept[index] = share
    return kept


def _with_mean_one(full: Mapping[int, float], counted: Collection[int]) -> dict[int, float]:
    total = sum(full[index] for index in counted)
    if total <= 0:
        return dict(full)
    return {index: share * len(counted) / total for index, share in full.items()}
