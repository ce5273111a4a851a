"""Follows the store: what is new is fetched, the cluster document before the tables.

It decodes documents only to find out which keys they need; ``in_use`` checks them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from controlplane.documents.check import decode_cluster
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER, table_kind
from controlplane.store.contract import AgentStore, StoreCorrupt, StoreDenied, StoreError, Version
from lb.agent.facts import SharedFacts
from lb.agent.worker import Backoff, Worker

WAIT_SECONDS = 10.0
UNLED_WAIT_SECONDS = 1.0
"""While no controller leads: when one does, that alone wakes nobody."""


@dataclass(frozen=True)
class Batch:
    """The result of one poll: encoded documents, tables by pool, and the keys of all pools.

    ``cluster_generation`` is that of the cluster document in the store; 0: not from a store.
    ``led``: a controller led the store when it was read.
    """

    cluster: bytes | None = None
    tables: Mapping[str, bytes] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    cluster_generation: int = 0
    led: bool = field(default=False, compare=False)

    @property
    def empty(self) -> bool:
        """Whether it has no documents."""
        return self.cluster is None and not self.tables


@dataclass(frozen=True)
class StoreTrouble:
    """The store did not answer, or refused."""

    line: str
    denied: bool


class Follower(Worker):
    """Waits for the store and delivers each poll's documents, or trouble, to the agent.

    ``after_poll`` is called after each poll that the store answered.
    """

    def __init__(
        self,
        store: AgentStore,
        facts: SharedFacts,
        deliver: Callable[[Batch | StoreTrouble], None],
        clock: Callable[[], float] = time.time,
        after_poll: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("follow")
        self._after_poll = after_poll
        self._store = store
        self._facts = facts
        self._deliver = deliver
        self._clock = clock
        self._backoff = Backoff()
        self._seen: dict[str, int] = {}
        self._delivered: dict[str, int] = {}
        self._pool_keys: dict[str, str] = {}
        self._keys: dict[str, bytes] = {}
        self._answered = False
        self._led = False

    def step(self) -> float:
        """Wait for something new and deliver it; pause after trouble."""
        try:
            led = self._led or self._store.is_led()  # first: what is read then is its word
            # The first poll is answered at once, whether there are documents or not.
            patience = WAIT_SECONDS if led else UNLED_WAIT_SECONDS
            news = not self._answered or led != self._led
            kinds = self._store.wait(self._seen, 0.0 if news else patience)
            batch = replace(self._fetch(kinds), led=led)
        except StoreError as error:
            self._facts.set_trouble("store", str(error))
            self._deliver(StoreTrouble(str(error), isinstance(error, StoreDenied)))
            return self._backoff.failed()
        self._facts.update(last_contact=self._clock(), heard_at=time.monotonic())
        self._facts.set_trouble("store", None)
        self._backoff.succeeded()
        self._warn_of_rollback(kinds)
        if news or not batch.empty:
            self._deliver(batch)
        self._answered, self._led = True, led
        self._seen = dict(kinds)
        self._after_poll()
        return 0.0

    def _fetch(self, kinds: Mapping[str, int]) -> Batch:
        """Fetch what is newer than delivered, cluster first, tables of the cluster's pools only."""
        cluster: bytes | None = None
        delivered = dict(self._delivered)
        if kinds.get(CLUSTER, 0) > delivered.get(CLUSTER, 0):
            version = self._read(CLUSTER)
            if version is not None:
                cluster, delivered[CLUSTER] = version.data, version.generation
                self._note_pools(version.data)
        # A pool that was removed and is added again, with another key, needs its table again.
        wanted = {CLUSTER, *map(table_kind, self._pool_keys)}
        delivered = {kind: at for kind, at in delivered.items() if kind in wanted}
        tables: dict[str, bytes] = {}
        for pool in self._pool_keys:
            kind = table_kind(pool)
            if kinds.get(kind, 0) > delivered.get(kind, 0):
                version = self._read(kind)
                if version is not None:
                    tables[pool], delivered[kind] = version.data, version.generation
        if cluster is not None or tables:
            self._fetch_keys()
        self._delivered = delivered
        generation = delivered[CLUSTER] if cluster is not None else 0
        return Batch(cluster, tables, dict(self._keys), generation)

    def _read(self, kind: str) -> Version | None:
        """Read a document; one that is damaged in the store does not stop the others."""
        try:
            version = self._store.latest(kind)
        except StoreCorrupt as error:
            structlog.get_logger().error("document unreadable", about=kind, reason=str(error))
            self._facts.set_trouble(f"store {kind}", str(error))
            return None
        self._facts.set_trouble(f"store {kind}", None)
        return version

    def _note_pools(self, data: bytes) -> None:
        try:
            cluster = decode_cluster(data)
        except DocumentError:
            return  # delivered nevertheless: the agent refuses and counts it
        self._pool_keys = {pool.name: pool.key_id for pool in cluster.pools}

    def _fetch_keys(self) -> None:
        for key_id in sorted(set(self._pool_keys.values())):
            if key_id in self._keys:
                continue
            try:
                self._keys[key_id] = self._store.key(key_id)
            except StoreCorrupt as error:
                structlog.get_logger().error("no key", about=key_id, reason=str(error))

    def _warn_of_rollback(self, kinds: Mapping[str, int]) -> None:
        for kind, generation in self._seen.items():
            if kinds.get(kind, 0) < generation:
                structlog.get_logger().warning(
                    "the store went back: what is in use stays",
                    about=kind,
                    generation=kinds.get(kind, 0),
                    before=generation,
                )
