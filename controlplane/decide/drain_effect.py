"""What a drain would do to a pool's table: the builder's answer, without publishing it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlplane.builder import BuildRequest, NoServerLeft, build
from controlplane.domain.objects import ServerState, Table

MOST_BUILDS = 4
"""Prepare, rotate, and what a rotation makes possible; more would only find nothing to do."""


@dataclass(frozen=True)
class DrainEffect:
    """What moves, in buckets.

    ``buckets``: that the server is current for. ``forced``: later hops that are pushed out within
    their drain time. ``full_seconds``: until that is over for all of them. ``nobody``: no other
    server could take the buckets.
    """

    buckets: int = 0
    forced: int = 0
    full_seconds: float = 0.0
    nobody: bool = False


def drain_effect(table: Table, request: BuildRequest, index: int) -> DrainEffect:
    """Return what the next tables would be if this server were drained now.

    ``request`` is that of the pool's next table. What other moves force is not counted.
    """
    buckets = int(np.count_nonzero(table.chains[:, 0] == index))
    drained = replace(request, states={**request.states, index: ServerState.DRAINING}, settled=True)
    try:
        forced = _forced(table, drained)
    except NoServerLeft:
        return DrainEffect(buckets, nobody=True)
    if forced:
        forced = max(0, forced - _forced(table, replace(request, settled=True)))
    full = _full_seconds(table, request, index) if forced else 0.0
    return DrainEffect(buckets, forced, full)


def _forced(table: Table, request: BuildRequest) -> int:
    forced = 0
    for _ in range(MOST_BUILDS):
        result = build(table, request)
        forced += result.forced
        if result.table is None:
            break
        table = result.table
        # What is known of connections is about the hops of the first table.
        request = replace(request, generation=request.generation + 1, occupancy=None)
    return forced


def _full_seconds(table: Table, request: BuildRequest, index: int) -> float:
    """Return how long the last of the server's full chains stays within its drain time."""
    full = (table.chains[:, 0] == index) & (table.chains[:, -1] != 0)
    newest = float(table.moved_at[full].max(initial=0))
    return min(
        max(0.0, newest + request.drain_time_seconds - request.now), request.drain_time_seconds
    )
