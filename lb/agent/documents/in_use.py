"""The documents that the data plane has in use, and the order in which they get there.

Nothing here waits, retries or reads a store: documents come as bytes, are taken into use whole or
refused with a reason. Only documents in use are ever acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlplane.documents.check import check_table, decode_cluster, decode_table
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER, Cluster, ServerState, Table, Vip, table_kind
from lb.agent.documents.cluster_view import check_cluster, cluster_view, cluster_vips
from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ClusterView
from lb.led_here import PoolHere, Steering, pool_here


class TableWriter(Protocol):
    """The part of ``Dataplane`` that documents change."""

    def set_cluster(self, view: ClusterView, accepted: Callable[[], None]) -> None:
        """Change services, DIPs and probers together; first call `accepted`, if they fit."""

    def set_table(self, pool: str, chains: NDArray[np.uint16], key: bytes) -> None:
        """Load a pool's table."""

    def remove_table(self, pool: str) -> None:
        """Take a pool's table away."""


class Vips(Protocol):
    """The part of ``VipKeeper`` that the cluster document changes."""

    def shrink(self, wanted: frozenset[Vip]) -> None:
        """Take down what is not wanted any more."""

    def extend(self, wanted: frozenset[Vip]) -> None:
        """Put up what is missing."""


@dataclass(frozen=True)
class LoadedTable:
    """A table in use: its generation and the DIP indices that it names."""

    generation: int
    indices: frozenset[int]


class DocumentsInUse:
    """Owner of the documents in use. For one thread.

    ``documents`` are their encoded bytes, ``since`` the Unix times when they were taken, by kind,
    for people; ``taken_at`` the same by the monotonic clock.
    ``view`` is the data plane's view of the cluster. ``steering`` is how the documents steer
    this server's connections, ``None`` without a cluster document; a new object with each change.
    ``server`` is this server's name.
    """

    def __init__(
        self,
        dataplane: TableWriter,
        vips: Vips,
        clock: Callable[[], float] = time.time,
        server: str = "",
    ) -> None:
        self._server = server
        self._here: dict[str, PoolHere] = {}
        self.steering: Steering | None = None
        self._dataplane = dataplane
        self._vips = vips
        self._clock = clock
        self._waiting: dict[str, bytes] = {}
        self.view = ClusterView()
        self.cluster: Cluster | None = None
        self.tables: dict[str, LoadedTable] = {}
        self.since: dict[str, float] = {}
        self.taken_at: dict[str, float] = {}
        self.documents: dict[str, bytes] = {}

    @property
    def waiting(self) -> frozenset[str]:
        """Pools whose newest table needs a cluster generation that is not in use (yet)."""
        return frozenset(self._waiting)

    def generations(self) -> dict[str, int]:
        """Return the generation in use of each document kind."""
        found = {table_kind(pool): loaded.generation for pool, loaded in self.tables.items()}
        if self.cluster is not None:
            found[CLUSTER] = self.cluster.generation
        return found

    def take_cluster(self, data: bytes) -> None:
        """Take a cluster document into use.

        DIPs and services are added before VIPs and removed after them, but nothing is removed
        before it is certain that all fits into the data plane.

        Raises:
            DocumentError: refused; what was in use stays in use.

        """
        cluster = decode_cluster(data)
        check_cluster(cluster, self.cluster)
        wanted = cluster_vips(cluster)
        try:
            self._update_dataplane(cluster, accepted=lambda: self._vips.shrink(wanted))
        except DataplaneError as error:
            raise DocumentError("data_plane", str(error)) from error
        self.cluster = cluster
        self._note(CLUSTER, data)
        for pool in [p for p in self._waiting if cluster.pool(p) is None]:
            del self._waiting[pool]  # the follower delivers it again if the pool is added again
        for pool in [p for p in self.tables if cluster.pool(p) is None]:
            self._forget_table(pool)
        self._steer(cluster)
        self._vips.extend(wanted)

    def take_table(self, pool: str, data: bytes, keys: Mapping[str, bytes]) -> bool:
        """Take a pool's table into use; return False if it has to wait for its cluster document.

        It waits for one that is newer, or that has the pool: the one that added the pool may have
        been refused. A table that is in use already may be taken again.

        Raises:
            DocumentError: refused; the table in use stays in use.

        """
        table = decode_table(data)
        if table.pool != pool:
            raise DocumentError("wrong_pool", f"table/{pool} holds a table of {table.pool}")
        if self.documents.get(table_kind(pool)) == data:
            return True
        if (
            self.cluster is None
            or table.cluster_generation > self.cluster.generation
            or self.cluster.pool(pool) is None
        ):
            self._waiting[pool] = data
            return False
        loaded = self.tables.get(pool)
        check_table(table, self.cluster, loaded.generation if loaded else 0)
        self._load(table, self.cluster, keys)
        self._note(table_kind(pool), data)
        self._waiting.pop(pool, None)
        return True

    def take_waiting(self, pool: str, keys: Mapping[str, bytes]) -> bool:
        """Take a table that waited, as ``take_table`` does."""
        return self.take_table(pool, self._waiting.pop(pool), keys)

    def _load(self, table: Table, cluster: Cluster, keys: Mapping[str, bytes]) -> None:
        pool = cluster.pool(table.pool)
        key = keys.get(pool.key_id) if pool is not None else None
        if pool is None or key is None:
            raise DocumentError("no_key", f"table of {table.pool}: its key could not be read")
        try:
            self._dataplane.set_table(table.pool, table.chains, key)
        except DataplaneError as error:
            raise DocumentError("data_plane", str(error)) from error
        indices = frozenset(int(index) for index in np.unique(table.chains) if index)
        self.tables[table.pool] = LoadedTable(table.generation, indices)
        before, own = self._here.get(table.pool), cluster.server(self._server)
        dead = [s.index for s in cluster.servers if s.state is ServerState.DOWN]
        now = time.monotonic()
        self._here[table.pool] = pool_here(table, pool, key, own, now, before, dead)
        self._steer(cluster)
        self._update_dataplane(cluster)

    def _steer(self, cluster: Cluster) -> None:
        own = cluster.server(self._server)
        dip = own.dip if own else None
        self.steering = Steering(cluster.generation, cluster.services, dict(self._here), dip)

    def _note(self, kind: str, data: bytes) -> None:
        self.documents[kind] = data
        self.since[kind] = self._clock()
        self.taken_at[kind] = time.monotonic()

    def _forget_table(self, pool: str) -> None:
        self._dataplane.remove_table(pool)
        del self.tables[pool]
        self._here.pop(pool, None)
        for kept in (self.since, self.taken_at, self.documents):
            kept.pop(table_kind(pool), None)

    def _update_dataplane(
        self, cluster: Cluster, accepted: Callable[[], None] = lambda: None
    ) -> None:
        """Give the data plane the cluster, and the DIPs that loaded tables still name.

        `accepted` is called before anything changes, and only if they fit.
        """
        named = frozenset().union(*(loaded.indices for loaded in self.tables.values()))
        kept = {index: dip for index, dip in self.view.dips.items() if index in named}
        view = cluster_view(cluster, kept)
        if view == self.view:
            accepted()
            return
        self._dataplane.set_cluster(view, accepted)
        self.view = view
