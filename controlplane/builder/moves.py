"""Planning the moves from a table whose servers are all up towards the targets.

A move takes two tables: one puts the newcomer second, a later one makes the two change places. So
each build does the second half of moves that are prepared, and the first half of new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.chains import Chains, put_first, put_second
from controlplane.builder.choose import Indices, Rows, match, mix, rank_within
from controlplane.builder.request import BuildRequest, Slots
from controlplane.builder.targets import Targets

NEVER = 0
"""In ``moved_at``."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A table in the making: chains, the times of the last moves, and each server's buckets."""

    chains: Chains
    moved_at: NDArray[np.uint32]
    held: Slots

    @property
    def depth(self) -> int:
        """Slots a bucket."""
        return int(self.chains.shape[1])


@dataclass(frozen=True, eq=False)
class Plan:
    """What to change, as bucket numbers and the server that each goes to.

    ``rotate``: one that is later in the chain becomes current. ``forget``: later hops go.
    ``prepare``: a newcomer is put second (at depth 1, in place of the current one). ``forced``:
    how many of these push out a hop within its drain time.
    """

    rotate: Rows
    rotate_to: Indices
    forget: Rows
    prepare: Rows
    prepare_to: Indices
    forced: int
    held_back: int


def plan_moves(draft: Draft, request: BuildRequest, targets: Targets) -> Plan:
    """Plan the fewest moves that bring each server to its target.

    Buckets whose chain names a receiver already only rotate, protected ones first (nothing else
    can be done with those). For the rest, newcomers are put behind the current server where the
    hop that falls off is none, or the oldest. Hops within their drain time are pushed out only for
    servers that have to give buckets up: above their cap, which is 0 for those not eligible.
    """
    give = np.maximum(draft.held - targets.buckets, 0)
    take = np.maximum(targets.buckets - draft.held, 0)
    age = np.abs(request.now - draft.moved_at.astype(np.float64))
    recent = (age < request.drain_time_seconds) & (draft.moved_at != NEVER)
    rotate, rotate_to = _rotations(draft.chains, recent, give, take)
    resting = np.ones(age.size, dtype=np.bool_)
    resting[rotate] = False
    forget = _hops(draft, 0)
    if request.forget_after_seconds is not None:
        forget = _hops(draft, 1) & resting & (age >= request.forget_after_seconds)
    tail_since = np.where(_hops(draft, draft.depth - 1) & ~forget, draft.moved_at, NEVER)
    giving = np.flatnonzero((give[draft.chains[:, 0]] > 0) & resting)
    # Where nothing falls off is best, then where the last move is longest ago.
    giving = giving[np.argsort(tail_since[giving], kind="stable")]
    protected = recent[giving] & (tail_since[giving] != NEVER)
    free = _take_up_to(giving[~protected], draft.chains, give)
    must = np.clip(targets.buckets + give - targets.caps, 0, give).astype(np.int64)
    forced = _take_up_to(giving[protected], draft.chains, must)
    prepare = np.concatenate((free, forced))
    # Each giver's buckets side by side, so that they go to as many receivers as possible.
    prepare = prepare[np.argsort(draft.chains[prepare, 0], kind="stable")]
    return Plan(
        rotate=rotate,
        rotate_to=rotate_to,
        forget=np.flatnonzero(forget),
        prepare=prepare,
        prepare_to=mix(take)[: prepare.size],
        forced=forced.size,
        held_back=int(give.sum()) - forced.size,
    )


def _hops(draft: Draft, place: int) -> NDArray[np.bool_]:
    """Return which buckets have a later hop at this place (place 0 is none)."""
    if not 0 < place < draft.depth:
        return np.zeros(draft.chains.shape[0], dtype=np.bool_)
    hops: NDArray[np.bool_] = draft.chains[:, place] != 0
    return hops


def _rotations(
    chains: Chains, recent: NDArray[np.bool_], give: Slots, take: Slots
) -> tuple[Rows, Indices]:
    """Choose the buckets that go to a server in their own chain; lowers ``give`` and ``take``."""
    rows: list[Rows] = [np.empty(0, dtype=np.intp)]
    servers: list[Indices] = [np.empty(0, dtype=np.uint16)]
    done = np.zeros(chains.shape[0], dtype=np.bool_)
    for place in range(1, chains.shape[1]):
        wanted = (give[chains[:, 0]] > 0) & (take[chains[:, place]] > 0) & ~done
        ordered = np.concatenate(
            (np.flatnonzero(wanted & recent), np.flatnonzero(wanted & ~recent))
        )
        pairs = match(chains[ordered, 0], chains[ordered, place], give, take)
        rows.append(ordered[pairs])
        servers.append(chains[rows[-1], place])
        done[rows[-1]] = True
    return np.concatenate(rows), np.concatenate(servers)


def _take_up_to(rows: Rows, chains: Chains, give: Slots) -> Rows:
    """Choose the first of each giver's ``rows``, as many as it may give; lowers ``give``."""
    givers = chains[rows, 0]
    chosen = rank_within(givers) < give[givers]
    give -= np.bincount(givers[chosen], minlength=give.size)
    taken: Rows = rows[chosen]
    return taken


def apply(plan: Plan, draft: Draft, now: int) -> None:
    """Carry the plan out on the draft's chains and times, in place."""
    chains, moved_at = draft.chains, draft.moved_at
    chains[plan.rotate] = put_first(chains[plan.rotate], plan.rotate_to)
    moved_at[plan.rotate] = now
    chains[plan.forget, 1:] = 0
    if draft.depth == 1:
        chains[plan.prepare, 0] = plan.prepare_to
        moved_at[plan.prepare] = now
    else:
        chains[plan.prepare] = put_second(chains[plan.prepare], plan.prepare_to)
