"""One pool's table from round to round: what is published, and what a death may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest

from controlplane.config import ControlConfig
from controlplane.newest import Newest
from controlplane.objects import TCP, Cluster, Pool, Server, ServerState, Service, Table
from controlplane.pool_desk import PoolDesk, Situation
from controlplane.say import Say
from controlplane.settle import Settlement
from controlplane.store.file import FileStore

ACTIVE, DRAINING, DOWN = ServerState.ACTIVE, ServerState.DRAINING, ServerState.DOWN
POOL = Pool("web", buckets=256, depth=2, key_id="web-1")
CONFIG = ControlConfig.model_validate(
    {
        "probers": ["10.0.0.9"],
        "server": [{"name": f"s{i}", "dip": f"10.1.0.{i}"} for i in range(1, 5)],
        "pool": [{"name": "web", "buckets": 256, "balance": "equal", "drain_time_seconds": 60}],
        "service": [
            {"name": "http", "vip": "192.0.2.1", "protocol": "tcp", "port": 80, "pool": "web"}
        ],
    }
)
SERVICE = Service("http", IPv4Address("192.0.2.1"), TCP, 80, "web")


def cluster(states: Mapping[int, ServerState]) -> Cluster:
    servers = tuple(
        Server(f"s{i}", IPv4Address("10.1.0.0") + i, i, states.get(i, ACTIVE)) for i in range(1, 5)
    )
    return Cluster(1, servers, (SERVICE,), (POOL,))


class Desk:
    """A desk with a store of its own; time passes by a second a round."""

    def __init__(self, store: FileStore) -> None:
        self._newest = Newest(store)
        self._newest.publish_cluster(cluster({}))
        self._desk = PoolDesk(POOL, Say())
        self._now = 1000.0

    def work(self, settled: bool, **states: ServerState) -> Table:
        """Do a round with servers s1... in these states; return the newest table."""
        now = self._now = self._now + 1
        found = cluster({int(name[1:]): state for name, state in states.items()})
        table = self._newest.tables.get("web")
        waiting = () if settled else ("s4",)
        self._desk.work(
            self._newest,
            Settlement("table/web", table.generation, waiting) if table else None,
            Situation(
                now=now,
                wall=now,
                ticked=True,
                config=CONFIG,
                cluster=found,
                settled_cluster=replace(found, generation=1),
                views={},
                reports={},
                failing=frozenset(),
            ),
        )
        return self._newest.tables["web"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = FileStore(tmp_path)
    yield Desk(store)
    store.close()


def changed(old: Table, new: Table) -> set[int]:
    """The servers that were current for buckets whose chain is another one now."""
    rows = (old.chains != new.chains).any(axis=1)
    return {int(index) for index in np.unique(old.chains[rows, 0])}


def test_a_drain_takes_two_tables_each_settled(desk: Desk) -> None:
    first = desk.work(settled=True)
    prepared = desk.work(settled=True, s1=DRAINING)
    assert prepared.generation == first.generation + 1
    assert (prepared.chains[:, 0] == first.chains[:, 0]).all()
    assert (prepared.chains[first.chains[:, 0] == 1, 1] != 0).all()
    assert desk.work(settled=False, s1=DRAINING) is prepared
    done = desk.work(settled=True, s1=DRAINING)
    assert not (done.chains[:, 0] == 1).any()


def test_a_death_swaps_nothing_that_is_not_settled(desk: Desk) -> None:
    desk.work(settled=True)
    prepared = desk.work(settled=True, s1=DRAINING)
    after = desk.work(settled=False, s1=DRAINING, s3=DOWN)
    assert after.generation == prepared.generation + 1
    assert not (after.chains == 3).any()
    untouched = ~(prepared.chains == 3).any(axis=1)
    assert (after.chains[untouched] == prepared.chains[untouched]).all()
    assert (after.chains[prepared.chains[:, 0] == 1, 0] == 1).all()


def test_nothing_to_do_is_nothing_published(desk: Desk) -> None:
    first = desk.work(settled=True)
    for settled in (True, False, True):
        assert desk.work(settled=settled) is first
    assert changed(first, desk.work(settled=True, s2=DOWN)) == {2}
