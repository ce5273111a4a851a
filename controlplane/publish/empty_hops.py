"""What the controller remembers to find empty hops: tables in use, marks given out, dumps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from controlplane.builder import Occupancy
from controlplane.decide.empty_hops import OPENING_SECONDS, InUse, occupancy
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, Mark, key_id_of
from controlplane.domain.objects import UDP, Cluster, Pool, Server, Table
from controlplane.publish.condition_log import ConditionLog
from controlplane.store.contract import ControllerStore, StoreError

EPOCH_BITS = 53
NO_MARKS = "no mark can be given out: empty hops stay in their chains"
COST_SHARE = 0.05
"""Of this thread's time, at most so much is for reading dumps and comparing them with tables."""

LastDumps = Callable[[str], tuple[Dump, ...]]
"""The last dumps of a server's agent, the newest last."""


@dataclass
class _Pool:
    """One pool: its newest table's use, and what dumps show of that table."""

    in_use: InUse = field(default_factory=InUse)
    known: Occupancy | None = None
    of_generation: int = 0


class EmptyHops:
    """Follows the tables of all pools of one leader's term. For one thread. Times are monotonic."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog, dumps: LastDumps) -> None:
        self._store = store
        self._conditions = conditions
        self._last = dumps
        self._mark = Mark(secrets.randbits(EPOCH_BITS), 0)
        self._pools: dict[str, _Pool] = {}
        self._key_ids: dict[str, str] = {}
        self._dumps: dict[str, tuple[Dump, ...]] = {}
        self._dumped_at: dict[str, float] = {}
        """When a server's dumps were last there, or were missed first."""
        self._read_at = 0.0
        self._next_at = 0.0
        self._spent_seconds = 0.0

    def follow(
        self,
        cluster: Cluster,
        settlements: Mapping[str, Settlement],
        in_transition: Collection[str],
        now: float,
    ) -> None:
        """Note which newest tables are settled, and give out a mark where one is due.

        ``settlements``: of the newest tables, by pool. ``in_transition``: pools with later hops;
        the others need no mark.
        """
        self._pools = {name: self._pools.get(name, _Pool()) for name in settlements}
        due = []
        for name, settlement in settlements.items():
            pool = self._pools[name]
            in_use = pool.in_use.follow(settlement, now)
            if in_use != pool.in_use:
                pool.in_use, pool.known = in_use, None
            opening = opening_seconds(cluster, name)
            if name in in_transition and in_use.needs_mark(now, opening):
                due.append(pool)
        if due and self._give_out(Mark(self._mark.epoch, self._mark.number + 1)):
            for pool in due:
                pool.in_use = pool.in_use.marked(self._mark, cluster.generation)
                pool.known = None

    def read(self, servers: Collection[Server], now: float) -> None:
        """Take the newest dumps of these servers, unless that would take too much time."""
        if now < self._next_at:
            return
        began = time.monotonic()
        found = {server.name: self._last(server.name) for server in servers}
        self._dumps = {name: dumps for name, dumps in found.items() if dumps}
        before, self._read_at = self._dumped_at, now
        self._dumped_at = {n: now if dumps else before.get(n, now) for n, dumps in found.items()}
        for pool in self._pools.values():
            pool.known = None
        self._spent_seconds += time.monotonic() - began
        self._next_at = now + self._spent_seconds / COST_SHARE
        self._spent_seconds = 0.0

    def occupancy(self, pool: Pool, table: Table, servers: Collection[Server]) -> Occupancy | None:
        """Return what is known of the table's hops, ``None`` for nothing."""
        state = self._pools.get(pool.name)
        key_id = self._key_id(pool)
        if state is None or key_id is None:
            return None
        if state.known is None or state.of_generation != table.generation:
            began = time.monotonic()
            dumps = {s.index: self._dumps[s.name] for s in servers if s.name in self._dumps}
            silent = {s.index: self._silent_seconds(s.name) for s in servers}
            state.known = occupancy(table, key_id, state.in_use, dumps, silent)
            state.of_generation = table.generation
            self._spent_seconds += time.monotonic() - began
        return state.known

    def _silent_seconds(self, server: str) -> float:
        return self._read_at - self._dumped_at.get(server, self._read_at)

    def _key_id(self, pool: Pool) -> str | None:
        if pool.key_id not in self._key_ids:
            try:
                self._key_ids[pool.key_id] = key_id_of(self._store.key(pool.key_id))
            except StoreError:
                return None
        return self._key_ids[pool.key_id]

    def _give_out(self, mark: Mark) -> bool:
        try:
            self._store.put_mark(mark)
        except StoreError as error:
            self._conditions.set(NO_MARKS, "mark", str(error))
            return False
        self._conditions.set(NO_MARKS, "mark", None)
        self._mark = mark
        return True


def opening_seconds(cluster: Cluster, pool: str) -> float:
    """Return how long a connection of a pool may be at a server without a socket."""
    slow = any(s.pool == pool and s.protocol == UDP and not s.stateless for s in cluster.services)
    return OPENING_SECONDS if slow else 0.0
