"""Reads the state of the servers from the store; it never writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from controlplane.documents.check import decode_cluster, decode_table
from controlplane.domain.objects import CLUSTER, Cluster, ServerState, Table, table_kind
from controlplane.domain.store_url import file_url
from controlplane.store.open import open_controller_store


class StoreReader:
    """Reads documents, acknowledgements and reports."""

    def __init__(self, store: Path) -> None:
        self._store = open_controller_store(file_url(store))
        self._tables: dict[str, Table] = {}

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def cluster(self) -> Cluster | None:
        """Return the newest cluster document."""
        version = self._store.latest(CLUSTER)
        return None if version is None else decode_cluster(version.data)

    def table(self, pool: str) -> Table | None:
        """Return a pool's newest table."""
        newest = self._store.kinds().get(table_kind(pool), 0)
        known = self._tables.get(pool)
        if newest and (known is None or known.generation != newest):
            version = self._store.latest(table_kind(pool))
            if version is not None:
                self._tables[pool] = decode_table(version.data)
        return self._tables.get(pool)

    def generation(self, pool: str) -> int:
        """Return the newest generation of a pool's table, 0 for none."""
        return self._store.kinds().get(table_kind(pool), 0)

    def buckets(self, pool: str) -> dict[str, int]:
        """Return the number of buckets of which each server is the current one."""
        table, cluster = self.table(pool), self.cluster()
        if table is None or cluster is None:
            return {}
        counts = np.bincount(table.chains[:, 0], minlength=1)
        return {
            server.name: int(counts[server.index]) if server.index < len(counts) else 0
            for server in cluster.servers
        }

    def shares(self, pool: str) -> dict[str, float]:
        """Return each server's part of a pool's buckets, without the servers that have none."""
        buckets = self.buckets(pool)
        total = sum(buckets.values())
        return {name: count / total for name, count in buckets.items() if count}

    def in_any_chain(self, pool: str, server: str) -> bool:
        """Return whether any chain of a pool's table contains this server."""
        table, cluster = self.table(pool), self.cluster()
        known = cluster.server(server) if cluster else None
        return bool(table is not None and known is not None and (table.chains == known.index).any())

    def state(self, server: str) -> ServerState | None:
        """Return a server's state in the cluster document."""
        cluster = self.cluster()
        known = cluster.server(server) if cluster else None
        return known.state if known else None

    def acknowledged(self, server: str, kind: str) -> int:
        """Return the generation that this server uses, 0 for none."""
        return self._store.acknowledgements().get(server, {}).get(kind, 0)

    def is_settled(self, pool: str, servers: Iterable[str]) -> bool:
        """Return whether these servers use the newest table of a pool."""
        return self._have_newest(table_kind(pool), servers)

    def are_active(self, servers: Iterable[str]) -> bool:
        """Return whether these servers are active and use the newest cluster document."""
        names = list(servers)
        active = all(self.state(name) is ServerState.ACTIVE for name in names)
        return active and self._have_newest(CLUSTER, names)

    def _have_newest(self, kind: str, servers: Iterable[str]) -> bool:
        newest = self._store.kinds().get(kind, 0)
        acknowledged = self._store.acknowledgements()
        return newest > 0 and all(
            acknowledged.get(server, {}).get(kind, 0) >= newest for server in servers
        )

    def is_ready(self, server: str, since_unix: float = 0.0) -> bool:
        """Return whether a server's agent has reported since this time that it is ready."""
        report = self._store.reports().get(server)
        return report is not None and report.ready and report.sent_at >= since_unix

    def has_reported(self, server: str, since_unix: float) -> bool:
        """Return whether a server's agent has reported since this time."""
        report = self._store.reports().get(server)
        return report is not None and report.sent_at >= since_unix

    def drained(self) -> frozenset[str]:
        """Return the servers with a drain request."""
        return frozenset(self._store.drain_requests())
