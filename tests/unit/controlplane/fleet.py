"""A simulated fleet: agents that follow a store, acknowledge and report, with no data plane.

What they check themselves is what a real agent checks: each table they take into use names only
servers of a cluster generation that they have.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from controlplane.documents.check import check_table, decode_cluster, decode_table
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import (
    CLUSTER,
    Cluster,
    PathReport,
    Report,
    ServiceHealth,
    Strays,
    Table,
)
from controlplane.store.file.store import FileStore
from lb.agent.documents.cluster_view import check_cluster

REPORT_SECONDS = 0.05
EVEN = {"s1": 64, "s2": 64, "s3": 64, "s4": 64}
"""The shares of four servers alike."""


@dataclass
class Agent:
    """One server's agent, in a thread. ``acks`` off: it never takes anything into use.

    ``most_services``: it refuses cluster documents with more, and those that a real one would.
    """

    name: str
    store: FileStore
    acks: bool = True
    reports: bool = True
    load: float | None = 0.5
    connections: int = 0
    checks: dict[str, ServiceHealth] = field(default_factory=dict)
    boot_id: str = "1"
    ready: bool = True
    detached: bool = False
    lost: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    most_services: int = 99
    leaving: bool = False
    refused: int = 0
    strays: tuple[Strays, ...] = ()
    presence: object = None
    flows: object = None
    cluster: Cluster | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    history: list[Table] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._sequence = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Agent:
        self._thread.start()
        return self

    def end(self, *, stopped: bool = False) -> None:
        """End the thread; ``stopped``: with a last report that the forwarder is detached."""
        self._stop.set()
        self._thread.join()
        if stopped:
            self._report(stopped=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self.reports:
                    self._follow()
                    self._report()
            except Exception as error:
                self.faults.append(repr(error))
                raise
            self._stop.wait(REPORT_SECONDS)

    def _follow(self) -> None:
        if not self.acks:
            return
        kinds = self.store.kinds()
        if kinds.get(CLUSTER, 0) > (self.cluster.generation if self.cluster else 0):
            version = self.store.latest(CLUSTER)
            assert version
            cluster = decode_cluster(version.data)
            self.refused = 0 if self._takes(cluster) else cluster.generation
            if not self.refused:
                self.cluster = cluster
                self.store.acknowledge(self.name, CLUSTER, cluster.generation)
        for pool in self.cluster.pools if self.cluster else ():
            self._follow_table(pool.name, kinds.get(f"table/{pool.name}", 0))

    def _takes(self, cluster: Cluster) -> bool:
        try:
            check_cluster(cluster, self.cluster)
        except DocumentError:
            return False
        return len(cluster.services) <= self.most_services

    def _follow_table(self, pool: str, newest: int) -> None:
        in_use = self.tables[pool].generation if pool in self.tables else 0
        if newest <= in_use:
            return
        version = self.store.latest(f"table/{pool}")
        assert version
        assert self.cluster
        table = decode_table(version.data)
        if table.cluster_generation > self.cluster.generation:
            return
        check_table(table, self.cluster, in_use)
        self.tables[pool] = table
        self.history.append(table)
        self.store.acknowledge(self.name, f"table/{pool}", table.generation)

    def _report(self, *, stopped: bool = False) -> None:
        self._sequence += 1
        self.store.report(
            Report(
                server=self.name,
                boot_id=self.boot_id,
                sequence=self._sequence,
                sent_at=0.0,
                ready=self.ready and not self.detached,
                stopped=stopped,
                detached=self.detached,
                paths=PathReport(3, self.lost, self.unknown),
                leaving=self.leaving,
                load=self.load,
                connections=self.connections,
                checks=dict(self.checks),
                refused_cluster=self.refused,
                strays=self.strays,
                presence=self.presence,
                flows=self.flows,
            )
        )


def dip(number: int) -> IPv4Address:
    return IPv4Address("10.1.0.0") + number
