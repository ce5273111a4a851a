"""What a drain would do to a pool's table, for the guards. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from controlplane.builder import BuildRequest
from controlplane.decide.plan.ahead import Ahead, run_ahead
from controlplane.domain.objects import ServerState, Table


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
    drained = run_ahead(table, with_states(request, {index: ServerState.DRAINING}))
    return effect_of(table, request, index, drained)


def effect_of(table: Table, request: BuildRequest, index: int, drained: Ahead) -> DrainEffect:
    """Return the same of a drain that has been run ahead."""
    buckets = int(np.count_nonzero(table.chains[:, 0] == index))
    if drained.nobody:
        return DrainEffect(buckets, nobody=True)
    forced = forced_by(table, request, drained)
    full = full_seconds(table, request, index) if forced else 0.0
    return DrainEffect(buckets, forced, full)


def with_states(request: BuildRequest, states: Mapping[int, ServerState]) -> BuildRequest:
    """Return the request with these servers in other states."""
    return replace(request, states={**request.states, **states})


def forced_by(table: Table, request: BuildRequest, changed: Ahead) -> int:
    """Return how many hops a change pushes out; what would be pushed out anyway is not its."""
    if not changed.forced:
        return 0
    return max(0, changed.forced - run_ahead(table, request).forced)


def full_seconds(table: Table, request: BuildRequest, index: int | None = None) -> float:
    """Return how long the last full chain stays within its drain time.

    ``index``: of the buckets of this server only.
    """
    full = table.chains[:, -1] != 0
    if index is not None:
        full &= table.chains[:, 0] == index
    newest = float(table.moved_at[full].max(initial=0))
    return min(
        max(0.0, newest + request.drain_time_seconds - request.now), request.drain_time_seconds
    )
