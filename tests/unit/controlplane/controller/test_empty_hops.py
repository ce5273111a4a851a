"""The real loop over a real store: hops leave that agents prove to be empty, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from controlplane.decide import empty_hops
from controlplane.documents.presence import (
    Dump,
    Mark,
    PoolPresence,
    encode_presence,
    key_id_of,
)
from controlplane.domain.objects import Report
from netns.polling import wait_until
from tests.unit.controlplane import conftest
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import Agent

BUCKETS = 256
BUSY = [3, 60, 100, 150, 200]
"""Buckets in which every agent of these tests has a connection."""


@dataclass
class Counting(Agent):
    """An agent that dumps its sockets for every report, or for one ``in_every`` so many.

    ``restarts``: before each report.
    """

    cookies_age: float | None = None
    silent_about: bool = False
    restarts: bool = False
    in_every: int = 1
    number: int = 0
    last: object = None
    marks: list[Mark | None] = field(default_factory=list)

    def _report(self, *, stopped: bool = False) -> None:
        self._sequence += 1
        self.boot_id = str(self._sequence) if self.restarts else self.boot_id
        if self._sequence % self.in_every == 0:
            self.last = self._dump()
        presence = None if self.silent_about else self.last
        self.store.report(
            Report(
                self.name,
                self.boot_id,
                self._sequence,
                0.0,
                ready=self.ready,
                stopped=stopped,
                presence=presence,
            )
        )

    def _dump(self) -> object:
        if self.cluster is None:
            return None
        self.number += 1
        self.marks.append(self.store.mark)
        occupied = np.zeros(BUCKETS, dtype=np.bool_)
        occupied[BUSY] = True
        pools = {
            pool.name: PoolPresence(
                key_id_of(self.store.key(pool.key_id)), BUCKETS, len(BUSY), occupied
            )
            for pool in self.cluster.pools
        }
        dump = Dump(
            self.number,
            self.store.mark,
            self.cluster.generation,
            self.cookies_age,
            pools,
        )
        return encode_presence(dump, 1 << 16)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "Agent", Counting)
    monkeypatch.setattr(empty_hops, "FLIGHT_SECONDS", 0.3)


def drained(fleet: Fleet, name: str) -> None:
    fleet.store.request_drain(name, requested=True)
    wait_until(lambda: name not in fleet.current(), "drained")
    wait_until(fleet.calm, "settled")


def buckets_of(fleet: Fleet, index: int) -> list[int]:
    table = fleet.table()
    assert table
    return np.flatnonzero((table.chains == index).any(axis=1)).tolist()


def test_a_drained_server_stays_only_where_it_has_connections(fleet: Fleet) -> None:
    fleet.up(3)
    was = buckets_of(fleet, 3)
    drained(fleet, "s3")
    busy = sorted(set(was) & set(BUSY))
    assert busy
    wait_until(lambda: buckets_of(fleet, 3) == busy, "empty hops have left")
    fleet.go_on(0.5)
    assert buckets_of(fleet, 3) == busy
    assert (fleet.metric("hops_empty_total", pool="web") or 0) >= len(was) - len(busy)


@pytest.mark.parametrize("fault", ["no presence", "a cookie", "restarts"])
def test_without_proof_every_hop_stays(fleet: Fleet, fault: str) -> None:
    fleet.up(3)
    agent = fleet.agents["s3"]
    assert isinstance(agent, Counting)
    agent.silent_about = fault == "no presence"
    agent.cookies_age = 1.0 if fault == "a cookie" else None
    agent.restarts = fault == "restarts"
    was = buckets_of(fleet, 3)
    drained(fleet, "s3")
    fleet.go_on(1.5)
    assert buckets_of(fleet, 3) == was


def test_moves_do_not_end_connections_that_are_older_than_the_drain_time(fleet: Fleet) -> None:
    """In a pool with UDP. Each move makes all dumps void for a moment: the cluster is newer."""
    udp = {"name": "game", "vip": "192.0.2.1", "protocol": "udp", "port": 70, "pool": "web"}
    pool = {"name": "web", "buckets": BUCKETS, "balance": "equal", "drain_time_seconds": 1.0}
    services = [service.model_dump(exclude_unset=True) for service in fleet.config(4).service]
    fleet.up(4, pool=[pool], service=[*services, udp])
    for agent in fleet.agents.values():
        assert isinstance(agent, Counting)
        agent.in_every = 20
    was = buckets_of(fleet, 3)
    drained(fleet, "s3")
    busy = sorted(set(was) & set(BUSY))
    assert busy
    fleet.go_on(1.5)
    drained(fleet, "s2")
    fleet.store.request_drain("s2", requested=False)
    wait_until(lambda: fleet.states()["s2"] == "active" and fleet.calm(), "s2 is back")
    fleet.go_on(0.5)
    assert set(busy) <= set(buckets_of(fleet, 3))
