"""Stand-ins for the edges: a data plane, VIPs and a store that remember their calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

import numpy as np
from numpy.typing import NDArray

from controlplane.documents.check import encode_cluster, encode_table
from controlplane.domain.objects import (
    CLUSTER,
    TCP,
    Cluster,
    Origin,
    Pool,
    Report,
    Server,
    ServerState,
    Service,
    Table,
    Vip,
    vip_text,
)
from controlplane.domain.vips import in_order
from controlplane.store.contract import (
    NOBODY,
    AgentStore,
    StoreCorrupt,
    StoreError,
    Version,
    is_newer,
)
from lb.agent.netlink.watcher import RTMGRP, Watcher
from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ClusterView

KEY = bytes(range(16))
KEYS = {"web-key": KEY}
VIP = IPv4Address("192.0.2.10")
OTHER = IPv4Address("192.0.2.20")
BUCKETS = 256


def dip(index: int) -> IPv4Address:
    return IPv4Address(f"10.0.0.{index}")


def a_cluster(
    generation: int,
    indices: Sequence[int] = (1, 2),
    vips: Sequence[IPv4Address] = (VIP,),
    pools: Sequence[str] = ("web",),
    states: Mapping[int, ServerState] | None = None,
    key_id: str = "web-key",
    gue_port: int = 6080,
) -> Cluster:
    return Cluster(
        generation,
        tuple(
            Server(f"s{i}", dip(i), i, (states or {}).get(i, ServerState.ACTIVE)) for i in indices
        ),
        tuple(
            Service(f"{pool}-{vip}", IPv4Network(vip), TCP, 80 + n, pool)
            for vip in vips
            for n, pool in enumerate(pools)
        ),
        tuple(Pool(pool, BUCKETS, 2, key_id=key_id) for pool in pools),
        gue_port=gue_port,
    )


def a_table(
    generation: int, chain: Sequence[int], cluster_generation: int = 1, pool: str = "web"
) -> Table:
    chains = np.tile(np.array(chain, dtype=np.uint16), (BUCKETS, 1))
    return Table(pool, generation, cluster_generation, chains, np.zeros(BUCKETS, np.uint32))


def encoded(document: Cluster | Table) -> bytes:
    return encode_cluster(document) if isinstance(document, Cluster) else encode_table(document)


class FakeEvents:
    """A socket of notifications: returns or raises what it is given, then has no more."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = [*answers]

    def recv(self, _: int) -> bytes:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def watching(*answers: bytes | OSError) -> Watcher:
    """A watcher with these notifications."""
    watcher = Watcher(RTMGRP(0))
    watcher._events = FakeEvents(*answers)  # type: ignore[assignment] # the part that is read
    return watcher


class FakeDataplane:
    """Remembers calls in order; ``fail_on`` makes the next call of that name fail."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.view = ClusterView()
        self.tables: dict[str, tuple[int, ...]] = {}
        self.fail_on = ""

    def _check(self, name: str) -> None:
        if self.fail_on == name:
            raise DataplaneError("full")

    def _call(self, name: str, what: str) -> None:
        self._check(name)
        self.log.append(f"{name} {what}")

    def set_cluster(self, view: ClusterView, accepted: Callable[[], None]) -> None:
        self._check("set_cluster")
        accepted()
        self._call("set_cluster", ",".join(str(index) for index in sorted(view.dips)))
        self.view = view

    def set_table(self, pool: str, chains: NDArray[np.uint16], key: bytes) -> None:
        assert key == KEY
        self._call("set_table", f"{pool} {chains[0].tolist()}")
        self.tables[pool] = tuple(chains[0].tolist())

    def remove_table(self, pool: str) -> None:
        self._call("remove_table", pool)
        del self.tables[pool]


class FakeVips:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.left_out: dict[Vip, str] = {}
        self.trouble: str | None = None

    def shrink(self, wanted: frozenset[Vip]) -> None:
        self.log.append(f"shrink {','.join(vip_text(vip) for vip in in_order(wanted))}")

    def extend(self, wanted: frozenset[Vip]) -> None:
        self.log.append(f"extend {','.join(vip_text(vip) for vip in in_order(wanted))}")


class FakeStore(AgentStore):
    """An agent's store in memory. ``failure`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.versions: dict[str, Version] = {}
        self.keys = dict(KEYS)
        self.failure: StoreError | None = None
        self.fetched: list[str] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.reports: list[Report] = []
        self.on_wait: Callable[[], None] = lambda: None
        self.led = True
        self.origins: set[Origin] = set()

    def put(self, document: Cluster | Table, data: bytes | None = None) -> None:
        kind = CLUSTER if isinstance(document, Cluster) else f"table/{document.pool}"
        self.versions[kind] = Version(kind, document.generation, data or encoded(document))

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def latest(self, kind: str) -> Version | None:
        self._check()
        self.fetched.append(kind)
        return self.versions.get(kind)

    def kinds(self) -> Mapping[str, int]:
        self._check()
        return {kind: version.generation for kind, version in self.versions.items()}

    def wait(self, seen: Mapping[str, int], timeout_seconds: float) -> Mapping[str, int]:
        if timeout_seconds and not is_newer(self.kinds(), seen):
            self.on_wait()
        return self.kinds()

    def key(self, key_id: str) -> bytes:
        self._check()
        self.fetched.append(f"key {key_id}")
        if key_id not in self.keys:
            raise StoreCorrupt(f"no key {key_id}")
        return self.keys[key_id]

    def acknowledge(self, server: str, kind: str, generation: int, origin: Origin = NOBODY) -> None:
        self._check()
        self.acknowledged.append((kind, generation))
        self.origins.add(origin)

    def report(self, report: Report) -> None:
        self._check()
        self.reports.append(report)

    def is_led(self) -> bool:
        self._check()
        return self.led

    def close(self) -> None:
        pass
