"""The newest published documents, decoded once per generation, and their publication."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from controlplane.documents.check import decode_cluster, decode_table, encode_cluster, encode_table
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER, Cluster, Table, table_kind
from controlplane.domain.table_facts import TableFacts, table_facts
from controlplane.store.contract import ControllerStore, StoreCorrupt, Version

HALF_SEEDED = (
    "the store has tables but no cluster document, so a seeding was interrupted: "
    "empty the store and begin it with --seed"
)

Document = TypeVar("Document", Cluster, Table)


class Published:
    """A controller's copy of what is published; ``refresh`` reads only what is new.

    Publishing goes through it too. A ``StoreConflict`` (another controller was first) leaves the
    copy as it is: the next ``refresh`` reads what the other controller published.
    """

    def __init__(self, store: ControllerStore) -> None:
        self._store = store
        self.cluster: Cluster | None = None
        self.tables: dict[str, Table] = {}
        self.facts: dict[str, TableFacts] = {}

    def refresh(self) -> None:
        """Read what is newer in the store.

        Raises:
            StoreCorrupt: the store has older generations than before, or was only half seeded.
                Agents would refuse whatever a controller published there, and new keys would
                send flows to other servers.
            StoreError, DocumentError: it cannot be read.

        """
        kinds = self._store.kinds()
        for kind, generation in self.generations().items():
            if kinds.get(kind, 0) < generation:
                raise StoreCorrupt(
                    f"the store went back: {kind} from generation {generation} to "
                    f"{kinds.get(kind, 0)}; bring it back, or begin anew with --seed"
                )
        if kinds and CLUSTER not in kinds:
            raise StoreCorrupt(HALF_SEEDED)
        if kinds.get(CLUSTER, 0) != self._generation(CLUSTER):
            version = self._store.latest(CLUSTER)
            self.cluster = _decoded(version, decode_cluster) if version else None
        pools = self.cluster.pools if self.cluster else ()
        for gone in self.tables.keys() - {pool.name for pool in pools}:
            del self.tables[gone], self.facts[gone]
        for pool in pools:
            kind = table_kind(pool.name)
            if kinds.get(kind, 0) != self._generation(kind):
                self._read_table(pool.name)

    def publish_cluster(self, cluster: Cluster) -> None:
        """Publish a cluster document. Raises ``StoreError``, ``DocumentError``."""
        self._store.publish(Version(CLUSTER, cluster.generation, encode_cluster(cluster)))
        self.cluster = cluster

    def publish_table(self, table: Table) -> None:
        """Publish a table. Raises ``StoreError``, ``DocumentError``."""
        version = Version(table_kind(table.pool), table.generation, encode_table(table))
        self._store.publish(version)
        self._keep(table)

    def pass_generation(self, kind: str, generation: int) -> None:
        """Publish the same content again until its generation is above ``generation``.

        A seeded store may be behind what some agents have in use, and agents replace a document
        only by one of a higher generation.
        """
        if kind == CLUSTER:
            while self.cluster and self.cluster.generation <= generation:
                self.publish_cluster(replace(self.cluster, generation=self.cluster.generation + 1))
            return
        pool = kind.removeprefix(table_kind(""))
        while pool in self.tables and self.tables[pool].generation <= generation:
            table = self.tables[pool]
            self.publish_table(replace(table, generation=table.generation + 1))

    def generations(self) -> Mapping[str, int]:
        """Return the newest generation of every kind that is in use."""
        found = {table_kind(pool): table.generation for pool, table in self.tables.items()}
        return found if self.cluster is None else {CLUSTER: self.cluster.generation, **found}

    def _generation(self, kind: str) -> int:
        return self.generations().get(kind, 0)

    def _read_table(self, pool: str) -> None:
        version = self._store.latest(table_kind(pool))
        if version:
            self._keep(_decoded(version, decode_table))

    def _keep(self, table: Table) -> None:
        self.tables[table.pool] = table
        self.facts[table.pool] = table_facts(table)


def _decoded(version: Version, decode: Callable[[bytes], Document]) -> Document:
    """Decode a document of the store; an error names the document."""
    try:
        return decode(version.data)
    except DocumentError as error:
        which = f"{version.kind} generation {version.generation} in the store"
        raise DocumentError(error.reason, f"{which}: {error.detail}") from error
