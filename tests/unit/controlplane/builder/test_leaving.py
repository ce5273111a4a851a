"""The builder, told where connections are: what leaves, what moves first, what is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from controlplane.builder import Occupancy, build
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import Table
from tests.unit.controlplane.builder.test_build import (
    BUCKETS,
    DRAIN,
    NOW,
    S,
    chains,
    request,
    table,
)

RECENT = NOW - DRAIN / 2
LONG_AGO = NOW - 2 * DRAIN
HALF = BUCKETS // 2
THREE = {1: S.ACTIVE, 2: S.ACTIVE, 3: S.ACTIVE}


def known(
    old: Table, *, empty: Any = None, leave: Any = None, connections: float = 0.0
) -> Occupancy:
    """All hops are known; ``empty`` and ``leave`` index those without connections."""
    occupied = np.ones(old.chains.shape, dtype=np.bool_)
    may_leave = np.zeros_like(occupied)
    if empty is not None:
        occupied[empty] = False
    if leave is not None:
        occupied[leave], may_leave[leave] = False, True
    per_bucket = np.full(MAX_SERVERS + 1, connections)
    silent = np.zeros(MAX_SERVERS + 1)
    return Occupancy(np.ones_like(occupied), occupied, may_leave, per_bucket, silent)


def test_empty_hops_leave_and_others_stay() -> None:
    old = table(((1, 2), HALF), ((2, 1), HALF), moved_at=RECENT)
    found = known(old, leave=np.s_[:10, 1])
    result = build(old, request(occupancy=found))
    assert chains(result) == {(1, 0): 10, (1, 2): HALF - 10, (2, 1): HALF}
    assert (result.dropped, result.forgotten, result.moved) == (10, 0, 0)


def test_empty_hops_wait_for_another_change_until_their_time() -> None:
    old = table(((1, 2), HALF), ((2, 1), HALF), moved_at=RECENT)
    found = known(old, leave=np.s_[:10, 1])
    waits = build(old, request(occupancy=found, drop_now=False))
    assert (waits.table, waits.dropped) == (None, 0)
    share = build(old, request(occupancy=found, drop_now=False, shares={1: 3.0, 2: 1.0}))
    assert share.dropped == 10


def test_nothing_leaves_before_the_table_is_settled() -> None:
    old = table(((1, 2), HALF), ((2, 1), HALF), moved_at=RECENT)
    found = known(old, leave=np.s_[:, 1])
    assert build(old, request(occupancy=found, settled=False)).table is None


def test_a_hop_that_leaves_makes_space_for_a_newcomer() -> None:
    old = table(((1, 2), HALF), ((2, 1), HALF), moved_at=RECENT)
    found = known(old, leave=np.s_[:, 1])
    result = build(old, request(occupancy=found, states=THREE))
    assert (result.prepared, result.forced, result.held_back) == (85, 0, 0)
    assert result.lost_connections == 0
    assert {chain[1] for chain in chains(result)} == {0, 3}


def test_a_prepared_newcomer_does_not_leave() -> None:
    old = table(((1, 3), 40), ((1, 0), HALF - 40), ((2, 3), 40), ((2, 0), HALF - 40))
    found = known(old, leave=np.s_[:, 1])
    result = build(old, request(occupancy=found, states=THREE))
    assert result.moved == 80
    assert result.dropped == 0
    assert chains(result)[3, 1] + chains(result)[3, 2] == 80


def test_buckets_without_connections_move_first() -> None:
    old = table(((1, 0), HALF), ((2, 0), HALF))
    empty = np.s_[HALF - 42 : HALF, 0]
    result = build(old, request(occupancy=known(old, empty=empty), states=THREE))
    assert result.table is not None
    moved = np.flatnonzero(result.table.chains[:HALF, 1] == 3)
    assert set(range(HALF - 42, HALF)) <= set(moved.tolist())


def test_buckets_without_connections_come_back_first() -> None:
    old = table(((1, 2), BUCKETS), moved_at=RECENT)
    found = known(old, empty=np.s_[100:228, 0])
    result = build(old, request(occupancy=found))
    assert result.table is not None
    assert np.flatnonzero(result.table.chains[:, 0] == 2).tolist() == list(range(100, 228))


def test_a_hop_with_connections_is_pushed_out_last() -> None:
    """Server 1 drains; the chains are full, and some of their last hops are not proved empty."""
    old = table(((1, 2), BUCKETS), moved_at=LONG_AGO)
    found = known(old, empty=(np.arange(50, 90), 1), connections=3.0)
    states = {1: S.ACTIVE, 2: S.DRAINING, 3: S.ACTIVE}
    share = {1: BUCKETS - 40.0, 3: 40.0}
    result = build(old, request(occupancy=found, states=states, shares=share))
    assert result.table is not None
    assert np.flatnonzero(result.table.chains[:, 1] == 3).tolist() == list(range(50, 90))
    assert result.lost_connections == 0


def test_what_is_forced_is_counted_in_connections() -> None:
    old = table(((1, 2), BUCKETS), moved_at=RECENT)
    states = {1: S.DRAINING, 2: S.DRAINING, 3: S.ACTIVE}
    found = known(old, empty=np.s_[:200, 1], connections=3.0)
    result = build(old, request(occupancy=found, states=states))
    assert (result.forced, result.lost_connections) == (BUCKETS, 56 * 3.0)


def test_what_is_not_known_is_not_counted() -> None:
    old = table(((1, 2), BUCKETS), moved_at=RECENT)
    states = {1: S.DRAINING, 2: S.DRAINING, 3: S.ACTIVE}
    found = known(old)
    found.known[7, 1] = False
    assert build(old, request(occupancy=found, states=states)).lost_connections is None
    assert build(old, request(states=states)).lost_connections is None


@pytest.mark.parametrize(
    ("forget_occupied", "left"),
    [(False, {(1, 2): 20, (1, 0): BUCKETS - 20}), (True, {(1, 0): BUCKETS})],
)
def test_time_alone_ends_no_connection_unless_the_operator_says_so(
    *, forget_occupied: bool, left: dict[tuple[int, int], int]
) -> None:
    """A pool of TCP and UDP forgets hops for the sake of UDP."""
    old = table(((1, 2), BUCKETS), moved_at=LONG_AGO)
    found = known(old, empty=np.s_[20:, 1])
    result = build(
        old,
        request(
            occupancy=found,
            states={1: S.ACTIVE, 2: S.DRAINING},
            forget_after_seconds=DRAIN,
            forget_occupied=forget_occupied,
        ),
    )
    assert chains(result) == Counter(left)


@pytest.mark.parametrize(("silent_seconds", "forgotten"), [(DRAIN - 1, 0), (DRAIN, BUCKETS)])
def test_what_is_not_known_for_the_moment_is_not_forgotten(
    silent_seconds: float, forgotten: int
) -> None:
    """A dump is void just after each change of the cluster, an agent restarts, a leader is new."""
    old = table(((1, 2), BUCKETS), moved_at=LONG_AGO)
    found = known(old)
    found.known[:, 1] = False
    found.silent_seconds[2] = silent_seconds
    forgetful = request(
        occupancy=found,
        states={1: S.ACTIVE, 2: S.DRAINING},
        forget_after_seconds=DRAIN,
        forget_occupied=False,
    )
    assert build(old, forgetful).forgotten == forgotten


def test_a_bucket_whose_chain_lost_a_dead_server_is_not_known_any_more() -> None:
    old = table(((1, 2), HALF), ((3, 2), HALF), moved_at=RECENT)
    found = known(old, leave=np.s_[:, 1])
    states = {1: S.ACTIVE, 2: S.DRAINING, 3: S.DOWN}
    result = build(old, request(occupancy=found, states=states))
    assert chains(result) == {(1, 0): HALF, (1, 2): HALF}
