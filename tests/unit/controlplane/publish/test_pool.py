"""One pool's table from round to round: what is published, and what a death may change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from controlplane.builder import Occupancy
from controlplane.decide.settlement import Settlement
from controlplane.decide.views import FleetView, RoundView
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import TCP, Cluster, Pool, Server, ServerState, Service, Table
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.pool import DROP_SECONDS, PoolPublisher
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.file.store import FileStore

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
POOL = Pool("web", buckets=256, depth=2, key_id="web-1")
"""Its chains are short enough to be full after one move."""


def config(**pool: Any) -> ControlConfig:
    """Settings with one pool of four servers."""
    plain = {"name": "web", "buckets": 256, "balance": "equal", "drain_time_seconds": 60}
    service = {"name": "http", "vip": "192.0.2.1", "protocol": "tcp", "port": 80, "pool": "web"}
    return ControlConfig.model_validate(
        {
            "probers": ["10.0.0.9"],
            "server": [{"name": f"s{i}", "dip": f"10.1.0.{i}"} for i in range(1, 5)],
            "pool": [{**plain, **pool}],
            "service": [service],
        }
    )


SERVICE = Service("http", IPv4Network("192.0.2.1"), TCP, 80, "web")


def cluster(states: Mapping[int, ServerState]) -> Cluster:
    servers = tuple(
        Server(f"s{i}", IPv4Address("10.1.0.0") + i, i, states.get(i, ACTIVE)) for i in range(1, 5)
    )
    return Cluster(1, servers, (SERVICE,), (POOL,))


class OnePool:
    """A pool with a store of its own; time passes by a second a round."""

    def __init__(self, store: FileStore, settings: ControlConfig) -> None:
        self._published = Published(store)
        self._published.publish_cluster(cluster({}))
        pool = replace(POOL, depth=settings.pool[0].depth or POOL.depth)
        self._publisher = PoolPublisher(pool, self._published, ConditionLog())
        self._config = settings
        self._now = 1000.0
        self._forced = 0

    def forced(self) -> int:
        """How many hops were forced out so far."""
        return self._forced

    def pass_time(self, seconds: float) -> None:
        self._now += seconds

    def round(
        self,
        *,
        settled: bool = True,
        ramps: Mapping[int, float] | None = None,
        failing: Collection[str] = (),
        generation: int = 1,
        loads: Mapping[int, float | None] | None = None,
        known: Callable[[Table], Occupancy | None] = lambda _: None,
        **states: ServerState,
    ) -> Table:
        """Do a round with servers s1... in these states; return the newest table."""
        self.pass_time(1.0)
        found = cluster({int(name[1:]): state for name, state in states.items()})
        table = self._published.tables.get("web")
        waiting = () if settled else ("s4",)
        outcome = self._publisher.publish_next(
            Settlement("table/web", table.generation, waiting) if table else None,
            RoundView(
                now=self._now,
                fleet_seconds=self._now,
                ticked=True,
                config=self._config,
                fleet=FleetView(),
                cluster=replace(found, generation=generation),
                settled_cluster=found,
                failing=frozenset((name, "http") for name in failing),
                ramps=ramps or {},
                loads={"web": loads or {}},
            ),
            known,
        )
        self._forced += outcome.result.forced if outcome.result else 0
        return self._published.tables["web"]


MakePool = Callable[..., OnePool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    store = FileStore(tmp_path)

    def make(**pool: Any) -> OnePool:
        return OnePool(store, config(**pool))

    yield make
    store.close()


@pytest.fixture
def pool(make_pool: MakePool) -> OnePool:
    return make_pool()


def current(table: Table) -> dict[int, int]:
    """Buckets by the index of their current server."""
    indices, counts = np.unique(table.chains[:, 0], return_counts=True)
    return {int(index): int(count) for index, count in zip(indices, counts, strict=True)}


def later_hops(table: Table, index: int) -> int:
    return int((table.chains[:, 1] == index).sum())


def changed(old: Table, new: Table) -> set[int]:
    """The servers that were current for buckets whose chain is another one now."""
    rows = (old.chains != new.chains).any(axis=1)
    return {int(index) for index in np.unique(old.chains[rows, 0])}


def test_a_drain_takes_two_tables_each_settled(pool: OnePool) -> None:
    first = pool.round(settled=True)
    prepared = pool.round(settled=True, s1=DRAINING)
    assert prepared.generation == first.generation + 1
    assert (prepared.chains[:, 0] == first.chains[:, 0]).all()
    assert (prepared.chains[first.chains[:, 0] == 1, 1] != 0).all()
    assert pool.round(settled=False, s1=DRAINING) is prepared
    done = pool.round(settled=True, s1=DRAINING)
    assert not (done.chains[:, 0] == 1).any()


def test_a_death_swaps_nothing_that_is_not_settled(pool: OnePool) -> None:
    pool.round(settled=True)
    prepared = pool.round(settled=True, s1=DRAINING)
    after = pool.round(settled=False, s1=DRAINING, s3=DOWN)
    assert after.generation == prepared.generation + 1
    assert not (after.chains == 3).any()
    untouched = ~(prepared.chains == 3).any(axis=1)
    assert (after.chains[untouched] == prepared.chains[untouched]).all()
    assert (after.chains[prepared.chains[:, 0] == 1, 0] == 1).all()


def test_nothing_to_do_is_nothing_published(pool: OnePool) -> None:
    first = pool.round(settled=True)
    for settled in (True, False, True):
        assert pool.round(settled=settled) is first
    assert changed(first, pool.round(settled=True, s2=DOWN)) == {2}


def test_the_bounded_load_is_that_of_the_settings(make_pool: MakePool) -> None:
    """A newcomer at the very beginning of its slow start has no share yet."""
    found = current(make_pool(cap=1.0).round(ramps={4: 0.0}, s4=JOINING))
    assert found == dict.fromkeys((1, 2, 3, 4), 64)


def test_without_a_bound_a_newcomer_begins_with_nothing(make_pool: MakePool) -> None:
    found = current(make_pool(cap=0).round(ramps={4: 0.0}, s4=JOINING))
    assert (set(found), sum(found.values())) == ({1, 2, 3}, 256)


def test_moves_for_load_wait_for_the_drain_time_of_the_settings(pool: OnePool) -> None:
    pool.round(s3=REGISTERED, s4=REGISTERED)
    for _ in range(2):
        pool.round(s1=DRAINING, s3=REGISTERED, s4=REGISTERED)
    for _ in range(4):
        table = pool.round(s1=DRAINING)
    assert later_hops(table, 1) == 128, "they may hold connections yet"
    assert current(table) == {2: 128, 3: 64, 4: 64}
    pool.pass_time(60)
    for _ in range(4):
        table = pool.round(s1=DRAINING)
    assert later_hops(table, 1) < 128
    assert max(current(table).values()) == 86


@pytest.mark.parametrize("forget", [None, 30])
def test_old_hops_are_forgotten_as_the_settings_say(
    make_pool: MakePool, forget: int | None
) -> None:
    pool = make_pool(**({} if forget is None else {"forget_after_seconds": forget}))
    for state in (ACTIVE, DRAINING, DRAINING):
        table = pool.round(s1=state)
    assert later_hops(table, 1) == 64
    pool.pass_time(30)
    assert later_hops(pool.round(s1=DRAINING), 1) == (64 if forget is None else 0)


def test_in_a_panic_the_unhealthy_take_over_from_the_dead_like_all_others(pool: OnePool) -> None:
    before = pool.round()
    after = pool.round(s3=DOWN, failing=("s1", "s2"))
    assert set(current(after)) == {1, 2, 4}
    assert max(current(after).values()) <= 86
    kept = before.chains[:, 0] != 3
    assert (after.chains[kept] == before.chains[kept]).all()


def test_a_table_is_built_on_the_cluster_document_that_is_settled(pool: OnePool) -> None:
    """Agents that have no newer one yet could not take it into use, and a death would wait."""
    assert pool.round(generation=3).cluster_generation == 1
    assert pool.round(generation=4, settled=False, s3=DOWN).cluster_generation == 1


@pytest.mark.parametrize("depth", [2, 4])
def test_hops_that_are_forced_out_are_one_line_with_a_remedy(
    make_pool: MakePool, depth: int
) -> None:
    """With chains of two, the second drain within a drain time pushes live hops out."""
    pool = make_pool(depth=depth)
    with structlog.testing.capture_logs() as logs:
        pool.round()
        for s2 in (ACTIVE, ACTIVE, DRAINING, DRAINING):
            pool.round(s1=DRAINING, s2=s2)
    forced = [line for line in logs if line["event"].startswith("hops forced out")]
    assert bool(forced) == (depth == 2)
    for line in forced:
        assert (line["log_level"], line["about"]) == ("warning", "web")
        assert line["hops"] > 0
        assert "a new pool of depth 4" in line["remedy"]


ALL = ("s1", "s2", "s3", "s4")
EVEN = dict.fromkeys((1, 2, 3, 4), 64)


def test_all_unhealthy_in_the_middle_of_a_drain_bring_the_table_back(pool: OnePool) -> None:
    """Failing checks are seen one after the other: the first ones drain until it is a panic."""
    first = pool.round()
    for _ in range(4):
        half = pool.round(failing=("s2", "s4"))
    assert set(current(half)) == {1, 3}
    for _ in range(4):
        table = pool.round(failing=ALL)
    assert current(table) == EVEN
    assert (table.chains[:, 0] == first.chains[:, 0]).all(), "by rotations: all as it was"
    assert pool.forced() == 0


def test_a_panic_ends_when_few_have_failed_for_a_while(pool: OnePool) -> None:
    pool.round()
    assert current(pool.round(failing=ALL)) == EVEN
    for _ in range(20):
        table = pool.round(failing=("s1",))
    assert current(table) == EVEN, "it may begin again"
    pool.round(failing=("s1", "s2", "s3"))
    pool.pass_time(29)
    assert current(pool.round(failing=("s1",))) == EVEN, "the time begins anew"
    pool.pass_time(29)
    for _ in range(4):
        table = pool.round(failing=("s1",))
    assert set(current(table)) == {2, 3, 4}, "an ordinary drain again"


def test_in_a_panic_nothing_moves_for_load(make_pool: MakePool) -> None:
    pool = make_pool(balance="load")
    pool.round()
    for _ in range(10):
        table = pool.round(failing=ALL, loads={1: 0.9, 2: 0.1, 3: 0.1, 4: 0.1})
    assert current(table) == EVEN


def no_connections(rows: slice) -> Callable[[Table], Occupancy]:
    """Say that all later hops of these buckets have proved that they are empty."""

    def known(table: Table) -> Occupancy:
        leave = np.zeros(table.chains.shape, dtype=np.bool_)
        leave[rows, 1:] = True
        zeros = np.zeros(MAX_SERVERS + 1)
        return Occupancy(~leave | leave, ~leave, leave, zeros, zeros)

    return known


def test_empty_hops_leave_alone_every_5_s_at_most(pool: OnePool) -> None:
    pool.round()
    pool.round(s1=DRAINING)
    full = pool.round(s1=DRAINING)
    hops = later_hops(full, 1)
    moved = np.flatnonzero(full.chains[:, 1] == 1)
    some, more = slice(0, int(moved[9]) + 1), slice(0, int(moved[19]) + 1)
    first = pool.round(s1=DRAINING, known=no_connections(some))
    assert later_hops(first, 1) == hops - 10
    waits = pool.round(s1=DRAINING, known=no_connections(more))
    assert waits is first
    pool.pass_time(DROP_SECONDS)
    second = pool.round(s1=DRAINING, known=no_connections(more))
    assert later_hops(second, 1) == hops - 20


def test_empty_hops_leave_at_once_with_another_change(pool: OnePool) -> None:
    pool.round()
    pool.round(s1=DRAINING)
    full = pool.round(s1=DRAINING)
    moved = np.flatnonzero(full.chains[:, 1] == 1)
    some, more = slice(0, int(moved[9]) + 1), slice(0, int(moved[19]) + 1)
    pool.round(s1=DRAINING, known=no_connections(some))
    table = pool.round(s1=DRAINING, s2=DRAINING, known=no_connections(more))
    assert (table.chains[moved[:20], 1] != 1).all()
