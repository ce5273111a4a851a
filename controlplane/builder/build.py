"""`build`: the next table of a pool. docs/adr/0005 explains why moves take two steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.chains import Chains, compact, put_first
from controlplane.builder.choose import Buckets, match, mix
from controlplane.builder.moves import Draft, Moves, apply, plan_moves
from controlplane.builder.request import BuildRequest, BuildResult, PerServer, PoolChanged, Servers
from controlplane.builder.targets import Floats, Targets, fill, find_targets, whole
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import Table


def build(old: Table | None, request: BuildRequest) -> BuildResult:
    """Return the table that follows ``old``; the same arguments always give the same one.

    - Servers that are down leave all chains. The buckets they were current for go at once to a
      later hop of the chain that is below its target (it knows connections), else to any server
      below its target.
    - A time after ``now`` cannot be: it is replaced by ``now``, so that the hops are kept for their
      full time from now on, and not for ever.
    - Only if ``settled``: prepared moves are completed, new ones prepared, old hops forgotten, and
      hops leave that have no connections: if nothing else changes, only with ``drop_now``. A
      bucket's new current server was always in its chain one generation earlier; at depth 1, where
      there are no later hops, moves take one step.
    - The first table (``old`` is ``None``) is divided by share; its ``moved_at`` is 0.

    Raises:
        NoServerLeft: no server is joining or active. The old table stays.
        PoolChanged: ``old`` does not have this pool's shape.

    """
    servers = Servers.of(request)
    chains, moved_at = _start(old, request)
    now = int(np.clip(request.now, 1, np.iinfo(np.uint32).max))
    impossible = moved_at > now
    moved_at[impossible] = now
    bereaved, orphans = _all(chains) if old is None else _remove_dead(chains, servers.known)
    if request.occupancy is not None:
        request = replace(request, occupancy=request.occupancy.without(bereaved))
    held: PerServer = np.bincount(chains[:, 0], minlength=MAX_SERVERS + 1)
    held -= np.bincount(chains[orphans, 0], minlength=held.size)
    targets = find_targets(request.pool.buckets, servers, request.cap_factor, held)
    draft = Draft(chains, moved_at, held)
    _adopt(draft, orphans, targets, 0 if old is None else now)
    moves = plan_moves(draft, request, targets)
    coming = np.bincount(np.concatenate((moves.rotate_to, moves.prepare_to)), minlength=held.size)
    lacking = np.maximum(targets.buckets - draft.held - coming, 0)
    changed = bereaved.size > 0
    if request.settled:
        apply(moves, draft, now)
        changed |= moves.rotate.size + moves.prepare.size + moves.leaving.old > 0
        changed |= bool(impossible.any()) or (request.drop_now and moves.leaving.empty > 0)
    return BuildResult(
        table=_finish(request, draft) if changed else None,
        held_back=moves.held_back,
        unplaced=targets.unplaced,
        targets={int(i): int(targets.buckets[i]) for i in np.flatnonzero(servers.eligible)},
        coming={int(i): int(coming[i]) for i in np.flatnonzero(coming)},
        lacking={int(i): int(lacking[i]) for i in np.flatnonzero(lacking)},
        dropped=moves.leaving.empty if changed and request.settled else 0,
        lost_connections=moves.lost_connections,
        **_counts(moves, orphans.size, depth=draft.depth, settled=request.settled),
    )


def _counts(moves: Moves, orphans: int, *, depth: int, settled: bool) -> dict[str, int]:
    """Return how many buckets were moved, prepared and forced, hops forgotten, moves pending."""
    rotated, prepared = moves.rotate.size, moves.prepare.size
    if not settled:
        counts = (orphans, 0, 0, 0, rotated + prepared)
    elif depth == 1:
        counts = (orphans + prepared, 0, 0, 0, 0)
    else:
        counts = (orphans + rotated, prepared, moves.forced, moves.forgotten, prepared)
    return dict(zip(("moved", "prepared", "forced", "forgotten", "pending"), counts, strict=True))


def _start(old: Table | None, request: BuildRequest) -> tuple[Chains, NDArray[np.uint32]]:
    """Return arrays to work on: copies of the old table's, or empty ones."""
    shape = (request.pool.buckets, request.pool.depth)
    if old is None:
        return np.zeros(shape, dtype=np.uint16), np.zeros(shape[0], dtype=np.uint32)
    if old.pool != request.pool.name or old.chains.shape != shape:
        raise PoolChanged(request.pool)
    return old.chains.copy(), old.moved_at.copy()


def _remove_dead(chains: Chains, known: NDArray[np.bool_]) -> tuple[Buckets, Buckets]:
    """Take servers that are not known out of all chains, in place.

    Returns the buckets whose chains changed or were empty, and those without a current server;
    their chains hold only the remaining later hops.
    """
    orphaned = ~known[chains[:, 0]] | (chains[:, 0] == 0)
    touched = orphaned.copy()
    for position in range(1, chains.shape[1]):
        touched |= ~known[chains[:, position]]
    rows = np.flatnonzero(touched)
    chains[rows] = compact(np.where(known[chains[rows]], chains[rows], 0))
    return rows, np.flatnonzero(orphaned)


def _all(chains: Chains) -> tuple[Buckets, Buckets]:
    """Return what `_remove_dead` returns for empty chains, without looking at them."""
    return np.arange(chains.shape[0]), np.arange(chains.shape[0])


def _adopt(draft: Draft, orphans: Buckets, targets: Targets, now: int) -> None:
    """Give every bucket without a current server one that is below its target; in place.

    The servers below target lack at least as many buckets as there are orphans.
    """
    if orphans.size == 0:
        return
    take = np.maximum(targets.buckets - draft.held, 0)
    waiting = orphans
    for position in range(draft.depth):
        heir = draft.chains[waiting, position]
        if not heir.any():
            break
        nobody = np.zeros_like(heir)
        anything: PerServer = np.full(take.size, waiting.size)
        accepted = match(nobody, heir, anything, take)
        _promote(draft, waiting[accepted], heir[accepted], now)
        waiting = np.delete(waiting, accepted)
    lacking: Floats = take.astype(np.float64)
    quota = whole(waiting.size, fill(waiting.size, lacking, lacking), take * 0)
    _promote(draft, waiting, mix(quota), now)


def _promote(draft: Draft, rows: Buckets, servers: NDArray[np.uint16], now: int) -> None:
    draft.chains[rows] = put_first(draft.chains[rows], servers)
    draft.moved_at[rows] = now
    np.add(draft.held, np.bincount(servers, minlength=draft.held.size), out=draft.held)


def _finish(request: BuildRequest, draft: Draft) -> Table:
    draft.chains.flags.writeable = False
    draft.moved_at.flags.writeable = False
    return Table(
        pool=request.pool.name,
        generation=request.generation,
        cluster_generation=request.cluster_generation,
        chains=draft.chains,
        moved_at=draft.moved_at,
    )
