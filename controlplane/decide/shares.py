"""From load to shares: moves each server's share towards the pool's mean load. Pure.

A proportional controller on logarithms: a server at twice the mean and one at half of it are as far
off, and shares stay positive. What is adjusted integrates, and answers come late (a move takes two
settled generations, loads are means over a window), so the gain is low: an integrator of gain ``g``
behind a delay ``d`` does not overshoot as long as ``g * d`` is below 1/e.

Loads are only compared with each other. Where there is nothing to compare, all stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.domain.objects import SERVING, ServerState

LONGEST_TICK_SECONDS = 3.0
"""A controller that was held up does not make up for it in one great step."""


@dataclass(frozen=True)
class ShareSettings:
    """How shares follow load. Steps are in natural logarithms: 0.05 is about 5 %.

    ``saturated_at``: a load at or above says no more than "too much" (``math.inf`` for loads that
    are no part of a whole). ``idle_below``: below this mean load there is only noise.
    ``windup``: how far a share may run ahead of the buckets that a server really has (moves may be
    held back, or capped).
    """

    gain_per_second: float = 0.07
    max_step_per_second: float = 0.05
    smoothing_seconds: float = 1.5
    dead_band: float = 0.04
    saturated_at: float = 0.97
    idle_below: float = 0.02
    windup: float = 0.4


@dataclass(frozen=True)
class Sighting:
    """What is known of a pool's servers now, by DIP index.

    ``loads`` of 1.0 are all of the capacity; ``None``, or none at all, is unknown or too old.
    ``ramps``: how far a joining server's slow start is, 0 to 1. ``placed``: buckets that each is
    current for.
    """

    states: Mapping[int, ServerState]
    loads: Mapping[int, float | None] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
    placed: Mapping[int, int] = field(default_factory=dict)

    def ramp(self, index: int) -> float:
        """Return the part of its full share that a server may have."""
        return min(max(self.ramps.get(index, 1.0), 0.0), 1.0)


@dataclass(frozen=True)
class Shares:
    """A pool's shares: ``shares`` is for the builder, the rest to go on from.

    ``full`` is the share of every server that was ever placed, without slow start; those of the
    active ones have a mean of 1. ``loads`` are smoothed. ``at`` is the clock of the last step.
    """

    shares: Mapping[int, float] = field(default_factory=dict)
    full: Mapping[int, float] = field(default_factory=dict)
    loads: Mapping[int, float] = field(default_factory=dict)
    at: float | None = None


def shares_of_table(placed: Mapping[int, int]) -> Shares:
    """Return the shares that a table stands for: where a new controller takes over."""
    held = {index: float(buckets) for index, buckets in placed.items() if buckets > 0}
    return Shares(full=_with_mean_one(held, held))


def adjust(
    before: Shares, sight: Sighting, now: float, settings: ShareSettings | None = None
) -> Shares:
    """Return the shares after one more tick. ``now`` is any clock in seconds, but always the same.

    - A server without a fresh load keeps its share: unknown is not idle.
    - All saturated, all idle, or fewer than two to compare: nothing changes.
    - A newcomer's full share is the mean, or what it had when it was last here; its ``ramp`` says
      how much of that it gets. While it grows, load can only lower it.
    - One that is saturated in a pool that is not gets less as fast as is allowed: its load does not
      say how much too much it has.
    """
    settings = settings or ShareSettings()
    placed = [index for index, state in sight.states.items() if state in SERVING]
    full = {index: share for index, share in before.full.items() if index in sight.states}
    full |= dict.fromkeys((index for index in placed if index not in full), _mean(full, placed))
    seconds = 0.0 if before.at is None else min(max(now - before.at, 0.0), LONGEST_TICK_SECONDS)
    loads = _smooth(before.loads, sight.loads, placed, seconds / settings.smoothing_seconds)
    steps = _steps(loads, sight, settings, seconds)
    changed = {index: full[index] * math.exp(step) for index, step in steps.items()}
    changed = _keep_sum(changed, full)
    full |= _without_windup(changed, full, sight, placed, settings.windup)
    full = _with_mean_one(full, [i for i in placed if sight.ramp(i) >= 1.0])
    shares = {index: full[index] * sight.ramp(index) for index in placed}
    return Shares(shares, full, loads, now)


def _mean(full: Mapping[int, float], placed: Collection[int]) -> float:
    known = [full[index] for index in placed if index in full]
    return sum(known) / len(known) if known else 1.0


def _smooth(
    before: Mapping[int, float],
    newest: Mapping[int, float | None],
    placed: Collection[int],
    passed: float,
) -> dict[int, float]:
    """Return exponential means of the fresh loads; ``passed`` is in time constants."""
    weight = 1.0 - math.exp(-passed)
    smoothed = {}
    for index in placed:
        load = newest.get(index)
        if load is not None and math.isfinite(load) and load >= 0:
            mean = before.get(index, load)
            smoothed[index] = mean + weight * (load - mean)
    return smoothed


def _steps(
    loads: Mapping[int, float], sight: Sighting, settings: ShareSettings, seconds: float
) -> dict[int, float]:
    """Return the logarithm of each change, for those servers that load has a say about."""
    compared = [load for index, load in loads.items() if sight.ramp(index) >= 1.0]
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
        steps[index] = step if sight.ramp(index) >= 1.0 else min(step, 0.0)
    return steps if any(steps.values()) else {}


def _keep_sum(changed: Mapping[int, float], full: Mapping[int, float]) -> dict[int, float]:
    """Scale the changed shares to their sum before, so that those of others mean the same."""
    if not changed:
        return {}
    scale = sum(full[index] for index in changed) / sum(changed.values())
    return {index: share * scale for index, share in changed.items()}


def _without_windup(
    changed: Mapping[int, float],
    full: Mapping[int, float],
    sight: Sighting,
    placed: Collection[int],
    windup: float,
) -> dict[int, float]:
    """Stop shares from running away from what is placed; one that is off may come back."""
    held = {index: sight.placed.get(index, 0) for index in placed}
    parts = sum(full[index] * sight.ramp(index) for index in placed)
    total = sum(held.values())
    kept = {}
    for index, share in changed.items():
        if held[index] > 0 and sight.ramp(index) >= 1.0:
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
