"""Takes or refuses new documents, saves them as the last good ones, and acknowledges them.

In this order: the fleet relies on what was acknowledged. A server that lost its memory right after
an acknowledgement must not start with an older table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import structlog

from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER, table_kind
from controlplane.store.contract import StoreError
from controlplane.store.state_dir import StateDir
from lb.agent.documents.follower import Batch
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.facts import SharedFacts


class Intake:
    """Takes batches in: what is in use is saved, then acknowledged.

    ``attached`` is whether the data plane is attached, so that what it has is in use.
    """

    def __init__(
        self,
        in_use: DocumentsInUse,
        files: StateDir,
        facts: SharedFacts,
        acknowledge: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._in_use = in_use
        self._files = files
        self._facts = facts
        self._acknowledge = acknowledge
        self._on_disk: dict[str, int] = {}
        self._keys_on_disk: dict[str, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self._unsaved = False
        self.refused_pools: set[str] = set()
        self.attached = False

    def take(self, batch: Batch) -> None:
        """Take a batch in, the cluster document before the tables."""
        self._keys.update(batch.keys)
        if batch.cluster is not None:
            taken = self._try(CLUSTER, partial(self._in_use.take_cluster, batch.cluster))
            if batch.cluster_generation:
                self._facts.update(refused_cluster=0 if taken else batch.cluster_generation)
        for pool, data in sorted(batch.tables.items()):
            self._take_table(pool, partial(self._in_use.take_table, pool, data, batch.keys))
        if batch.cluster is not None:
            # the cluster document just taken may be the one these tables were waiting for
            for pool in sorted(self._in_use.waiting - batch.tables.keys()):
                self._take_table(pool, partial(self._in_use.take_waiting, pool, self._keys))
        self.publish()

    def publish(self) -> None:
        """Report what is in use, save it as the last good, then acknowledge it."""
        generations = self._in_use.generations()
        self._facts.update(
            generations=generations,
            since=dict(self._in_use.since),
            taken_at=dict(self._in_use.taken_at),
            steering=self._in_use.steering if self.attached else None,
        )
        if self.attached and (self._save(generations) or self._forget_saved()):
            self._acknowledge(generations)

    def save_again(self) -> None:
        """Try again what could not be saved."""
        if self._unsaved:
            self.publish()

    def _take_table(self, pool: str, take: Callable[[], bool]) -> None:
        if self._try(table_kind(pool), take):
            self.refused_pools.discard(pool)
        else:
            self.refused_pools.add(pool)

    def _try(self, kind: str, take: Callable[[], object]) -> bool:
        """Take one document; a refused one is counted and reported, and changes nothing."""
        log = structlog.get_logger()
        try:
            taken = take()
        except DocumentError as error:
            self._facts.count_refused(kind, error.reason)
            self._facts.set_trouble(kind, f"{kind}: {error}")
            log.error("document refused", about=kind, reason=error.reason, detail=str(error))  # noqa: TRY400
            return False
        self._facts.set_trouble(kind, None)
        event = "document waits for the cluster's" if taken is False else "document taken"
        log.info(event, about=kind, generation=self._in_use.generations().get(kind))
        return True

    def _save(self, generations: Mapping[str, int]) -> bool:
        """Save what is new, the cluster document before the tables; return whether all is saved."""
        self._unsaved = True
        try:
            self._save_keys()
            for kind, generation in sorted(generations.items()):
                if self._on_disk.get(kind) != generation:
                    self._files.save_document(kind, self._in_use.documents[kind])
                    self._on_disk[kind] = generation
            for kind in self._on_disk.keys() - generations.keys():
                self._files.forget_document(kind)
                del self._on_disk[kind]
        except StoreError as error:
            structlog.get_logger().warning("cannot save the last good documents", reason=str(error))
            self._facts.set_trouble(
                "state_dir",
                f"{error}; until that is repaired, this server needs the store to start",
            )
            return False
        self._unsaved = False
        self._facts.set_trouble("state_dir", None)
        return True

    def _forget_saved(self) -> bool:
        """Make sure that no agent starts from older documents than those in use.

        Without a saved cluster document, nothing is used of what is saved. Return whether it is
        gone; as long as it is not, nothing new may be acknowledged, which holds the fleet up.
        """
        try:
            self._files.forget_document(CLUSTER)
        except StoreError as error:
            line = f"documents can be neither saved nor removed: {error}"
            self._facts.set_trouble(
                "state_dir",
                f"{line}; new ones are not acknowledged, so the whole fleet waits for this server: "
                "repair the disk, or lbctl down --force",
            )
            structlog.get_logger().error(line)
            return False
        self._on_disk.pop(CLUSTER, None)
        return True

    def _save_keys(self) -> None:
        for key_id, key in self._keys.items():
            if self._keys_on_disk.get(key_id) != key:
                self._files.save_key(key_id, key)
                self._keys_on_disk[key_id] = key
