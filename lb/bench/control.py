"""The cost of a table for the controller: time and memory of `controlplane.builder.build`."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from controlplane.builder import BuildRequest, build
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Pool, ServerState, Table

SIZE = (65536, 1000)
OTHER_SIZES = ((4096, 40), (1 << 20, 4000))
POOLS = 64
ROUNDS = 15
SEED = 20
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Row:
    """One situation at one size: the median time of several builds, and the memory of one."""

    name: str
    buckets: int
    servers: int
    median_ms: float
    peak_mib: float


@dataclass(frozen=True)
class Situation:
    """Input for the builder; ``changes`` is whether the result must be a new table."""

    name: str
    old: Table | None
    request: BuildRequest
    changes: bool = True


def situations(buckets: int, servers: int) -> Iterator[Situation]:
    """Yield the four situations of a controller, the same ones every time."""
    draw = np.random.default_rng(SEED)
    states = dict.fromkeys(range(1, servers + 1), ServerState.ACTIVE)
    shares = {index: float(draw.uniform(0.5, 2.0)) for index in states}
    request = BuildRequest(
        pool=Pool("bench", buckets, 2),
        cluster_generation=1,
        generation=2,
        shares=shares,
        states=states,
        settled=True,
        now=NOW,
        drain_time_seconds=900.0,
    )
    yield Situation("cold", None, request)
    old = build(None, request).table
    dead = {**states, servers // 2: ServerState.DOWN}
    yield Situation("one_died", old, replace(request, states=dead, settled=False))
    changed = {index: float(draw.uniform(0.5, 2.0)) for index in states}
    yield Situation("all_shares_changed", old, replace(request, shares=changed))
    yield Situation("nothing_changed", old, request, changes=False)


def measure(
    size: tuple[int, int] = SIZE,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Measure every situation at ``size`` (buckets, servers)."""
    return [_row(situation, size, rounds, clock) for situation in situations(*size)]


def measure_pools(
    size: tuple[int, int] = SIZE,
    pools: int = POOLS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the milliseconds for this number of pools in which all shares changed."""
    situation = next(s for s in situations(*size) if s.name == "all_shares_changed")
    start = clock()
    for _ in range(pools):
        _build(situation)
    return 1e3 * (clock() - start)


def _row(
    situation: Situation, size: tuple[int, int], rounds: int, clock: Callable[[], float]
) -> Row:
    tracemalloc.start()
    _build(situation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    taken = []
    for _ in range(rounds):
        start = clock()
        _build(situation)
        taken.append(clock() - start)
    return Row(situation.name, *size, 1e3 * statistics.median(taken), peak / (1 << 20))


def _build(situation: Situation) -> None:
    if (build(situation.old, situation.request).table is not None) is not situation.changes:
        raise BrigadeError(f"the builder's result for {situation.name} is wrong; run its tests")
