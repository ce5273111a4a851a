"""Which buckets lead to this server, and how it left those that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest

from controlplane.domain.objects import Pool, Server, ServerState, Table
from lb.led_here import Left, PoolHere, pool_here

KEY = bytes(range(16))
OWN = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
BUCKETS = 256


def here(
    *chains: Sequence[int],
    server: Server | None = OWN,
    before: PoolHere | None = None,
    now: float,
    dead: Sequence[int] = (),
) -> PoolHere:
    """What tables say whose first buckets have these chains, the others that of server 2."""
    slots = np.zeros((BUCKETS, 2), np.uint16)
    slots[:, 0] = 2
    for bucket, chain in enumerate(chains):
        slots[bucket] = chain
    table = Table("web", 1, 1, slots, np.zeros(BUCKETS, np.uint32))
    return pool_here(table, Pool("web", BUCKETS, 2), KEY, server, now, before, dead)


def test_every_place_in_a_chain_leads_here() -> None:
    found = here([1, 0], [2, 1], [1, 2], [2, 3], now=5.0)
    assert np.flatnonzero(found.leads).tolist() == [0, 1, 2]
    assert not found.led_before.any()
    assert set(found.left.tolist()) == {Left.NEVER}


def test_a_server_without_an_index_is_in_no_chain() -> None:
    """An empty slot has index 0."""
    assert not here([1, 0], server=None, now=5.0).leads.any()


def test_how_it_left_is_known_from_both_tables() -> None:
    first = here([2, 1], [2, 1], [1, 0], [1, 0], [2, 1], now=5.0)
    second = here([3, 2], [2, 0], [2, 3], [2, 1], [2, 1], before=first, now=9.0)
    left = [Left(kind) for kind in second.left.tolist()]
    expected = [Left.FORCED, Left.FORGOTTEN, Left.FORGOTTEN, Left.NEVER, Left.NEVER]
    assert left[:5] == expected
    assert second.left_at[:5].tolist() == [9.0, 9.0, 9.0, 0.0, 0.0]
    assert np.flatnonzero(second.led_before).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(second.leads).tolist() == [3, 4]


@pytest.mark.parametrize("state", [ServerState.DOWN, ServerState.REGISTERED, None])
def test_a_server_that_is_taken_out_was_removed(state: ServerState | None) -> None:
    first = here([2, 1], now=5.0)
    out = None if state is None else replace(OWN, state=state)
    assert here([2, 3], server=out, before=first, now=9.0).left[0] == Left.REMOVED


def test_it_stays_left_until_the_bucket_leads_here_again() -> None:
    first = here([2, 1], now=5.0)
    second = here([3, 2], before=first, now=9.0)
    third = here([3, 0], before=second, now=12.0)
    assert (third.left[0], third.left_at[0]) == (Left.FORCED, 9.0)
    assert not third.led_before[0]
    assert here([1, 3], before=third, now=15.0).left[0] == Left.NEVER
    assert second.left[0] == Left.FORCED, "what others still read does not change"


def test_the_key_is_in_no_log() -> None:
    assert str(KEY) not in repr(here(now=0.0))


def test_when_a_chain_changed_and_whether_it_lost_a_dead_server() -> None:
    first = here([2, 1], [3, 2], [1, 3], [3, 1], now=5.0)
    assert not np.isfinite(first.moved_at).any()
    second = here([2, 1], [2, 0], [1, 2], [1, 3], before=first, now=9.0, dead=[3])
    assert np.flatnonzero(second.moved_at == 9.0).tolist() == [1, 2, 3]
    assert np.flatnonzero(second.died_at == 9.0).tolist() == [1, 2], "the last one keeps it"
    third = here([2, 1], [2, 1], [1, 2], [1, 3], before=second, now=11.0)
    assert third.moved_at[:4].tolist() == [float("-inf"), 11.0, 9.0, 9.0]
    assert third.died_at[:4].tolist() == [float("-inf"), 9.0, 9.0, float("-inf")]


def test_in_a_table_of_another_depth_buckets_with_the_same_servers_have_not_moved() -> None:
    first = here([2, 1], [3, 2], now=5.0)
    deeper = np.pad(first.chains, ((0, 0), (0, 1)))
    deeper[1] = [3, 2, 1]
    table = Table("web", 2, 1, deeper, np.zeros(BUCKETS, np.uint32))
    second = pool_here(table, Pool("web", BUCKETS, 3), KEY, OWN, 9.0, first, [2])
    assert np.flatnonzero(second.moved_at == 9.0).tolist() == [1]
    assert not np.isfinite(second.died_at).any()
