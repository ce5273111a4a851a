"""Planning the moves from a table, once its servers are all up, to the targets.

A move takes two tables: one puts the newcomer second, a later one swaps the two. So each build
completes the moves that are prepared and prepares new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.chains import Chains, put_first, put_second
from controlplane.builder.choose import Buckets, Indices, match, mix, rank_within
from controlplane.builder.leaving import Leaving, find_leaving
from controlplane.builder.occupancy import Hops
from controlplane.builder.request import BuildRequest, PerServer
from controlplane.builder.targets import Targets

NEVER = 0
"""In ``moved_at``."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A table being built: chains, times of the last moves, and buckets of each server."""

    chains: Chains
    moved_at: NDArray[np.uint32]
    held: PerServer

    @property
    def depth(self) -> int:
        """PerServer a bucket."""
        return int(self.chains.shape[1])


@dataclass(frozen=True, eq=False)
class Moves:
    """What to change, as bucket numbers and the server that each bucket goes to.

    ``rotate``: a later hop of the chain becomes current. ``leaving``: later hops are removed.
    ``prepare``: a newcomer is put second (at depth 1 it replaces the current server). ``forced``:
    how many of the prepared moves push out a hop within its drain time. ``forgotten``: how many
    hops go because they are old, removed or pushed out. ``held_back``: how many
    moves wait for a drain time to pass. ``lost_connections``: see ``BuildResult``.
    """

    rotate: Buckets
    rotate_to: Indices
    leaving: Leaving
    prepare: Buckets
    prepare_to: Indices
    forced: int
    forgotten: int
    held_back: int
    lost_connections: float | None


def plan_moves(draft: Draft, request: BuildRequest, targets: Targets) -> Moves:
    """Plan the fewest moves that bring each server to its target.

    A bucket whose chain contains a receiver only rotates; buckets with a hop within its drain time
    come first, because they can do nothing else. In other buckets a newcomer is put behind the
    current server, preferably where no hop or the oldest hop falls off. Hops within their drain
    time are pushed out only for servers that must give buckets up: those above their cap, which is
    0 for servers that are not eligible.

    If it is known where connections are, buckets move first that have none at the server that gives
    them up, and hops with connections are pushed out last. Empty hops leave, and make space.
    """
    give = np.maximum(draft.held - targets.buckets, 0)
    take = np.maximum(targets.buckets - draft.held, 0)
    age = np.maximum(request.now - draft.moved_at.astype(np.float64), 0.0)
    recent = (age < request.drain_time_seconds) & (draft.moved_at != NEVER)
    known = request.occupancy
    busy = None if known is None else known.occupied
    rotate, rotate_to = _rotations(draft.chains, recent, give, take, busy)
    resting = np.ones(age.size, dtype=np.bool_)
    resting[rotate] = False
    leaving = find_leaving(draft.chains, request, resting, age)
    falls = _hops(draft, draft.depth - 1)
    falls[leaving.rows] = False
    tail_since = np.where(falls, draft.moved_at, NEVER)
    giving = np.flatnonzero((give[draft.chains[:, 0]] > 0) & resting)
    # First where no hop falls off, then where the last move is longest ago.
    order: list[NDArray[np.generic]] = [tail_since[giving]]
    if known is not None:
        used = known.known[giving, -1] & known.occupied[giving, -1]
        order += [known.occupied[giving, 0], falls[giving] & used]
    giving = giving[np.lexsort(order)]
    protected = recent[giving] & (tail_since[giving] != NEVER)
    free = _take_up_to(giving[~protected], draft.chains, give)
    must = np.clip(targets.buckets + give - targets.caps, 0, give).astype(np.int64)
    forced = _take_up_to(giving[protected], draft.chains, must)
    prepare = np.concatenate((free, forced))
    # Sorted by giver, so that each giver's buckets go to as many receivers as possible.
    prepare = prepare[np.argsort(draft.chains[prepare, 0], kind="stable")]
    return Moves(
        rotate=rotate,
        rotate_to=rotate_to,
        leaving=leaving,
        prepare=prepare,
        prepare_to=mix(take)[: prepare.size],
        forced=forced.size,
        forgotten=leaving.old + int(np.count_nonzero(tail_since[free] != NEVER)),
        held_back=int(give.sum()) - forced.size,
        lost_connections=_lost(prepare[falls[prepare]], draft, request),
    )


def _lost(rows: Buckets, draft: Draft, request: BuildRequest) -> float | None:
    """Return the connections of the last hops of these buckets, ``None`` if they are not known."""
    if request.occupancy is None:
        return None
    return request.occupancy.connections_at(rows, draft.chains, draft.depth - 1)


def _hops(draft: Draft, position: int) -> NDArray[np.bool_]:
    """Return which buckets have a later hop at this position (position 0 is not a later hop)."""
    if not 0 < position < draft.depth:
        return np.zeros(draft.chains.shape[0], dtype=np.bool_)
    hops: NDArray[np.bool_] = draft.chains[:, position] != 0
    return hops


def _rotations(
    chains: Chains,
    recent: NDArray[np.bool_],
    give: PerServer,
    take: PerServer,
    busy: Hops | None,
) -> tuple[Buckets, Indices]:
    """Choose buckets that go to a server of their own chain; lowers ``give`` and ``take``.

    ``busy``: which hops may have connections; those are the last that give a bucket up.
    """
    rows: list[Buckets] = [np.empty(0, dtype=np.intp)]
    servers: list[Indices] = [np.empty(0, dtype=np.uint16)]
    done = np.zeros(chains.shape[0], dtype=np.bool_)
    for position in range(1, chains.shape[1]):
        wanted = (give[chains[:, 0]] > 0) & (take[chains[:, position]] > 0) & ~done
        ordered = np.concatenate(
            (np.flatnonzero(wanted & recent), np.flatnonzero(wanted & ~recent))
        )
        if busy is not None:
            ordered = ordered[np.argsort(busy[ordered, 0], kind="stable")]
        pairs = match(chains[ordered, 0], chains[ordered, position], give, take)
        rows.append(ordered[pairs])
        servers.append(chains[rows[-1], position])
        done[rows[-1]] = True
    return np.concatenate(rows), np.concatenate(servers)


def _take_up_to(rows: Buckets, chains: Chains, give: PerServer) -> Buckets:
    """Choose each giver's first ``rows``, as many as it may give; lowers ``give``."""
    givers = chains[rows, 0]
    chosen = rank_within(givers) < give[givers]
    give -= np.bincount(givers[chosen], minlength=give.size)
    taken: Buckets = rows[chosen]
    return taken


def apply(moves: Moves, draft: Draft, now: int) -> None:
    """Apply the moves to the draft's chains and times, in place."""
    chains, moved_at = draft.chains, draft.moved_at
    chains[moves.rotate] = put_first(chains[moves.rotate], moves.rotate_to)
    moved_at[moves.rotate] = now
    moves.leaving.apply(chains)
    if draft.depth == 1:
        chains[moves.prepare, 0] = moves.prepare_to
        moved_at[moves.prepare] = now
    else:
        chains[moves.prepare] = put_second(chains[moves.prepare], moves.prepare_to)
