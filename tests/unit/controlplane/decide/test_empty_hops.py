"""Which hops may leave because they are empty: one condition a test (docs/adr/0015)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controlplane.decide.empty_hops import (
    COOKIE_SECONDS,
    FLIGHT_SECONDS,
    OPENING_SECONDS,
    InUse,
    may_leave,
    occupancy,
)
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, Mark, PoolPresence
from controlplane.domain.objects import Table

KEY_ID = "0" * 16
BUCKETS = 256
LANDED, LATER, EARLIER = Mark(7, 4), Mark(7, 5), Mark(7, 3)
IN_USE = InUse(9, 100.0, LANDED, LATER, cluster_generation=3)
CHAIN = (1, 2)
"""Server 2 is the later hop of every bucket."""


def table() -> Table:
    chains = np.tile(np.array(CHAIN, dtype=np.uint16), (BUCKETS, 1))
    return Table("p", 9, 2, chains, np.zeros(BUCKETS, dtype=np.uint32))


def pool(*occupied: int, **change: Any) -> PoolPresence:
    buckets = np.zeros(BUCKETS, dtype=np.bool_)
    buckets[list(occupied)] = True
    return replace(PoolPresence(KEY_ID, BUCKETS, 2 * len(occupied), buckets), **change)


def dump(number: int, *occupied: int, **change: Any) -> Dump:
    pools = {"p": pool(*occupied)}
    return replace(Dump(number, LANDED, 3, cookies_age=None, pools=pools), **change)


def test_a_hop_leaves_the_buckets_that_two_dumps_in_a_row_found_empty() -> None:
    leave = may_leave(table(), KEY_ID, IN_USE, {2: [dump(1), dump(2)]})
    assert leave[:, 1].all()
    assert not leave[:, 0].any(), "the current server never leaves"


def test_both_dumps_must_be_empty() -> None:
    leave = may_leave(table(), KEY_ID, IN_USE, {2: [dump(1, 5), dump(2, 6)]})
    assert np.flatnonzero(~leave[:, 1]).tolist() == [5, 6]


FAULTS = {
    "one dump": [dump(2)],
    "one between them was lost": [dump(1), dump(3)],
    "without a mark": [dump(1, mark=None), dump(2, mark=None)],
    "begun before the mark": [dump(1, mark=EARLIER), dump(2)],
    "a mark of another term": [dump(1, mark=Mark(6, 9)), dump(2, mark=Mark(6, 9))],
    "sorted by an older cluster document": [dump(1), dump(2, cluster_generation=2)],
    "a cookie at the first": [dump(1, cookies_age=COOKIE_SECONDS - 1), dump(2)],
    "without the pool": [dump(1), dump(2, pools={})],
    "by another key": [dump(1), dump(2, pools={"p": pool(key_id="1" * 16)})],
    "of another size": [dump(1), dump(2, pools={"p": pool(buckets=512)})],
}


@pytest.mark.parametrize("dumps", FAULTS.values(), ids=FAULTS)
def test_dumps_that_prove_nothing(dumps: list[Dump]) -> None:
    assert not may_leave(table(), KEY_ID, IN_USE, {2: dumps}).any()


def test_a_cookie_counts_until_it_is_too_old() -> None:
    cookie = {"cookies_age": 30.0}
    late = [dump(1, mark=LATER, **cookie), dump(2, mark=LATER, **cookie)]
    assert may_leave(table(), KEY_ID, IN_USE, {2: late})[:, 1].all()
    old = [dump(1, cookies_age=COOKIE_SECONDS + 1), dump(2, **cookie)]
    assert may_leave(table(), KEY_ID, IN_USE, {2: old})[:, 1].all()


@pytest.mark.parametrize(
    "in_use", [InUse(9), InUse(9, 100.0), replace(IN_USE, generation=8)], ids=str
)
def test_no_hop_leaves_before_the_mark_of_this_table(in_use: InUse) -> None:
    assert not may_leave(table(), KEY_ID, in_use, {2: [dump(1), dump(2)]}).any()


def test_a_mark_is_due_when_what_was_sent_before_has_landed() -> None:
    found = InUse().follow(Settlement("table/p", 9), 100.0)
    assert not found.needs_mark(100.0 + FLIGHT_SECONDS - 0.1, 0.0)
    assert found.needs_mark(100.0 + FLIGHT_SECONDS, 0.0)
    assert not found.needs_mark(100.0 + FLIGHT_SECONDS, OPENING_SECONDS)
    assert found.needs_mark(100.0 + FLIGHT_SECONDS + OPENING_SECONDS, OPENING_SECONDS)
    found = found.marked(LANDED, 3)
    assert not found.needs_mark(100.0 + COOKIE_SECONDS, 0.0)
    assert found.needs_mark(100.0 + FLIGHT_SECONDS + COOKIE_SECONDS, 0.0)
    assert found.marked(LATER, 4) == InUse(9, 100.0, LANDED, LATER, 3)


def test_a_mark_is_of_one_table_and_of_the_time_that_it_is_settled() -> None:
    settled = Settlement("table/p", 9)
    assert IN_USE.follow(settled, 200.0) == IN_USE
    assert IN_USE.follow(Settlement("table/p", 10), 200.0) == InUse(10, 200.0)
    lost = IN_USE.follow(Settlement("table/p", 9, waiting_for=("s3",)), 200.0)
    assert lost.follow(settled, 300.0) == InUse(9, 300.0)


def test_a_silent_server_that_lags_keeps_every_hop() -> None:
    passable = Settlement("table/p", 9, waiting_for=("s3",), silent=("s3",))
    assert passable.passable
    found = InUse().follow(passable, 100.0)
    assert not found.needs_mark(1000.0, 0.0)


def test_occupancy_is_what_the_newest_dumps_found() -> None:
    found = occupancy(table(), KEY_ID, InUse(9), {2: [dump(1, 5), dump(2, 6)]})
    assert found.known.tolist() == [[False, True]] * BUCKETS
    assert found.occupied[:, 0].all(), "nothing is known of server 1"
    assert np.flatnonzero(found.occupied[:, 1]).tolist() == [6]
    assert found.per_bucket[2] == 2.0
    assert not found.may_leave.any()
