"""Documents on their way in: taken or refused, acknowledged, and kept as the last good ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import structlog

from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER, table_kind
from controlplane.store.contract import StoreError
from controlplane.store.state_dir import StateDir
from lb.agent.documents.follower import Batch
from lb.agent.documents.in_use import Forwarding
from lb.agent.facts import Board

POOL_PREFIX = table_kind("")


class Saved(Protocol):
    """The part of ``StateDir`` that is used here."""

    def save_document(self, kind: str, data: bytes) -> None:
        """Make this the last good document of its kind."""

    def forget_document(self, kind: str) -> None:
        """Remove a last good document."""

    def save_key(self, key_id: str, key: bytes) -> None:
        """Save a key."""


def read_saved(state_dir: StateDir) -> Batch:
    """Return the last good documents and keys as a batch; what cannot be read is left out."""
    log = structlog.get_logger()
    keys: dict[str, bytes] = {}
    try:
        documents = state_dir.documents()
        for key_id in state_dir.key_ids():
            keys[key_id] = state_dir.key(key_id)
    except StoreError as error:
        log.warning("the last good documents cannot be read", reason=str(error))
        return Batch()
    tables = {
        kind.removeprefix(POOL_PREFIX): data
        for kind, data in documents.items()
        if kind.startswith(POOL_PREFIX)
    }
    return Batch(documents.get(CLUSTER), tables, keys)


class Intake:
    """Takes batches in: ``acknowledge`` is told at once of what is in use, the disk afterwards."""

    def __init__(
        self,
        forwarding: Forwarding,
        saved: Saved,
        board: Board,
        acknowledge: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._forwarding = forwarding
        self._saved = saved
        self._board = board
        self._acknowledge = acknowledge
        self._on_disk: dict[str, int] = {}
        self._keys_on_disk: dict[str, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self.refused_pools: set[str] = set()
        self.open = False
        """Whether the data plane is attached, so that what it has is in use."""

    def take(self, batch: Batch) -> None:
        """Take a batch in, the cluster document before the tables."""
        self._keys.update(batch.keys)
        if batch.cluster is not None:
            taken = self._try(CLUSTER, partial(self._forwarding.take_cluster, batch.cluster))
            if batch.cluster_generation:
                self._board.post(refused_cluster=0 if taken else batch.cluster_generation)
        for pool, data in sorted(batch.tables.items()):
            self._take_table(pool, partial(self._forwarding.take_table, pool, data, batch.keys))
        if batch.cluster is not None:
            # what they wait for may be it
            for pool in sorted(self._forwarding.waiting - batch.tables.keys()):
                self._take_table(pool, partial(self._forwarding.take_waiting, pool, self._keys))
        self.publish()

    def publish(self) -> None:
        """Post and acknowledge what is in use, then save it as the last good."""
        in_use = self._forwarding.in_use()
        self._board.post(generations=in_use, since=dict(self._forwarding.since))
        if self.open:
            self._acknowledge(in_use)
            self._save(in_use)

    def _take_table(self, pool: str, take: Callable[[], bool]) -> None:
        if self._try(table_kind(pool), take):
            self.refused_pools.discard(pool)
        else:
            self.refused_pools.add(pool)

    def _try(self, kind: str, take: Callable[[], object]) -> bool:
        """Take one document; a refused one is counted, told and otherwise without consequence."""
        log = structlog.get_logger()
        try:
            taken = take()
        except DocumentError as error:
            self._board.count_refused(kind, error.reason)
            self._board.trouble(kind, f"{kind}: {error}")
            log.error("document refused", about=kind, reason=error.reason, detail=str(error))  # noqa: TRY400
            return False
        self._board.trouble(kind, None)
        said = "document waits for the cluster's" if taken is False else "document taken"
        log.info(said, about=kind, generation=self._forwarding.in_use().get(kind))
        return True

    def _save(self, in_use: Mapping[str, int]) -> None:
        try:
            self._save_keys()
            for kind, generation in in_use.items():
                if self._on_disk.get(kind) != generation:
                    self._saved.save_document(kind, self._forwarding.documents[kind])
                    self._on_disk[kind] = generation
            for kind in self._on_disk.keys() - in_use.keys():
                self._saved.forget_document(kind)
                del self._on_disk[kind]
        except StoreError as error:
            structlog.get_logger().warning("cannot save the last good documents", reason=str(error))
            self._board.trouble("state_dir", str(error))
            return
        self._board.trouble("state_dir", None)

    def _save_keys(self) -> None:
        for key_id, key in self._keys.items():
            if self._keys_on_disk.get(key_id) != key:
                self._saved.save_key(key_id, key)
                self._keys_on_disk[key_id] = key
