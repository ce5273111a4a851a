"""Which later hops of a table may leave because they have no connections. Pure.

A hop that leaves too early breaks connections, so an empty bucket has to be proved. Server A proves
it for a bucket where it is a later hop of generation g, when all of this holds:

1. g is settled strictly, silent servers included: no server sends A new connections of the bucket;
2. what was sent to A before has landed: the leader gave out a *mark* that much later;
3. A has then begun two dumps of its sockets in a row, and neither has a connection in the bucket;
4. A has no SYN cookie outstanding, which is a connection without a socket;
5. both dumps are by the pool's key, and by a cluster document with every service that had packets
   sent to A.

The builder takes such a hop out of buckets that do not move in the same table. docs/adr/0015 has
the reasons, and tests/property/test_empty_hops.py all histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from controlplane.builder import Occupancy
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, Mark, PoolPresence
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import Table

FLIGHT_SECONDS = 2.0
"""How long a packet may be on its way to a server."""
OPENING_SECONDS = 5.0
"""How long a UDP flow may be without a connected socket: servers remember it for so long
(docs/wire.md, section 6.4)."""
COOKIE_SECONDS = 120.0
"""For how long a server accepts a SYN cookie (MAX_SYNCOOKIE_AGE, net/ipv4/syncookies.c)."""
IN_A_ROW = 2
"""Dumps. The kernel goes through a hash chain by position, so that a dump can skip a socket."""

Dumps = Mapping[int, Sequence[Dump]]
"""DIP index -> the last dumps of one run of that server's agent, the newest last."""


@dataclass(frozen=True)
class InUse:
    """Since when a pool's newest table is the only one in use, and which marks were given since.

    ``since``: when it was first seen to be settled strictly (monotonic); ``None``: it is not.
    ``landed``: given out when what was sent by earlier tables had landed. ``cookies_over``: given
    out when SYN cookies sent by then were no longer valid. ``cluster_generation``: the newest
    published when ``landed`` was given out.
    """

    generation: int = 0
    since: float | None = None
    landed: Mark | None = None
    cookies_over: Mark | None = None
    cluster_generation: int = 0

    def follow(self, settlement: Settlement, now: float) -> InUse:
        """Return the same for the table of this settlement, as it is now."""
        if not settlement.settled:
            return InUse(settlement.generation)
        if self.generation != settlement.generation or self.since is None:
            return InUse(settlement.generation, now)
        return self

    def needs_mark(self, now: float, opening_seconds: float) -> bool:
        """Whether a mark given out now shows more than those before.

        ``opening_seconds``: how long a connection of the pool may be at a server without a socket.
        """
        if self.since is None:
            return False
        landed_at = self.since + FLIGHT_SECONDS + opening_seconds
        if self.landed is None:
            return now >= landed_at
        return self.cookies_over is None and now >= landed_at + COOKIE_SECONDS

    def marked(self, mark: Mark, cluster_generation: int) -> InUse:
        """Return the same with the mark that was needed. ``cluster_generation``: the newest."""
        if self.landed is None:
            return replace(self, landed=mark, cluster_generation=cluster_generation)
        return replace(self, cookies_over=mark)


def may_leave(table: Table, key_id: str, in_use: InUse, dumps: Dumps) -> NDArray[np.bool_]:
    """Return which hops of the table may leave: bool, of the shape of its chains.

    ``key_id``: the digest of the pool's key (``controlplane.documents.presence``).
    """
    leave = np.zeros(table.chains.shape, dtype=np.bool_)
    if in_use.since is None or in_use.landed is None or in_use.generation != table.generation:
        return leave
    for index, rows, positions in _hops_by_server(table, first=1):
        pair = _proof(table, key_id, in_use, dumps.get(index, ()))
        if pair is not None:
            leave[rows, positions] = ~(pair[0].occupied[rows] | pair[1].occupied[rows])
    return leave


def occupancy(
    table: Table,
    key_id: str,
    in_use: InUse,
    dumps: Dumps,
    silent_seconds: Mapping[int, float] | None = None,
) -> Occupancy:
    """Return what the newest dumps show of the hops of the table, and which may leave.

    ``silent_seconds``: for how long a server has sent no dump, by DIP index; without it: for ever.
    """
    known = np.zeros(table.chains.shape, dtype=np.bool_)
    occupied = np.ones(table.chains.shape, dtype=np.bool_)
    per_bucket = np.zeros(MAX_SERVERS + 1)
    silent = np.full(MAX_SERVERS + 1, np.inf)
    for index, seconds in (silent_seconds or {}).items():
        silent[index] = seconds
    for index, rows, positions in _hops_by_server(table, first=0):
        last = dumps.get(index, ())
        found = _found(last[-1], table, key_id, table.cluster_generation) if last else None
        if found is not None:
            known[rows, positions] = True
            occupied[rows, positions] = found.occupied[rows]
            per_bucket[index] = found.connections / max(1, int(np.count_nonzero(found.occupied)))
    leaving = may_leave(table, key_id, in_use, dumps)
    return Occupancy(known, occupied, leaving, per_bucket, silent)


def newest_presence(table: Table, key_id: str, dumps: Dumps) -> dict[int, PoolPresence]:
    """Return what the newest dumps found in the table's pool, of those that are about it."""
    return {
        index: found
        for index, last in dumps.items()
        if last and (found := _found(last[-1], table, key_id, table.cluster_generation))
    }


def _proof(
    table: Table, key_id: str, in_use: InUse, last: Sequence[Dump]
) -> tuple[PoolPresence, PoolPresence] | None:
    """Return what the two dumps found that count, ``None``: these dumps prove nothing."""
    pair = last[-IN_A_ROW:]
    if len(pair) < IN_A_ROW or pair[1].number != pair[0].number + 1:
        return None
    if not all(_is_after(dump.mark, in_use.landed) for dump in pair):
        return None
    if not (_no_cookie(pair[0]) or _is_after(pair[0].mark, in_use.cookies_over)):
        return None
    found = [_found(dump, table, key_id, in_use.cluster_generation) for dump in pair]
    if found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


def _is_after(mark: Mark | None, needed: Mark | None) -> bool:
    """Whether a dump with this mark began after the needed one was given out, in one term."""
    if mark is None or needed is None or mark.epoch != needed.epoch:
        return False
    return mark.number >= needed.number


def _no_cookie(first: Dump) -> bool:
    """Whether no SYN cookie is outstanding at the first dump: none was sent for so long.

    One sent later is for another bucket, since the server gets no new connections of this one.
    """
    return first.cookies_age is None or first.cookies_age > COOKIE_SECONDS


def _found(dump: Dump, table: Table, key_id: str, cluster_generation: int) -> PoolPresence | None:
    """Return what a dump found in the table's pool, ``None``: it does not show that."""
    found = dump.pools.get(table.pool)
    if found is None or dump.cluster_generation < cluster_generation:
        return None
    return found if (found.key_id, found.buckets) == (key_id, table.buckets) else None


def _hops_by_server(
    table: Table, first: int
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield each server of the chains, from this position on, with its buckets and positions."""
    rows, positions = np.nonzero(table.chains[:, first:])
    positions += first
    servers = table.chains[rows, positions]
    order = np.argsort(servers, kind="stable")
    rows, positions, servers = rows[order], positions[order], servers[order]
    starts = np.flatnonzero(np.diff(servers, prepend=0))
    for start, end in pairwise([*starts, servers.size]):
        yield int(servers[start]), rows[start:end], positions[start:end]
