"""Caps from connections, and what a pool's balance remembers."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.decide.caps import connection_caps, smoothed, steady
from controlplane.decide.views import PoolView
from controlplane.domain.objects import ServerState
from controlplane.publish.pool_shares import Balance
from controlplane.settings.models import PoolConfig
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

ACTIVE, JOINING, DRAINING = ServerState.ACTIVE, ServerState.JOINING, ServerState.DRAINING
POOL = PoolConfig(name="web")
EQUAL = PoolConfig(name="web", balance="equal")
CURRENT = {1: 192, 2: 64}


def test_a_limit_in_connections_is_one_in_buckets() -> None:
    assert connection_caps({1: 100, 2: 500}, connections=1000, buckets=256) == {1: 25, 2: 128}


def test_a_limit_out_of_reach_is_none_and_the_least_is_one_bucket() -> None:
    assert connection_caps({1: 100}, connections=50, buckets=256) == {}
    assert connection_caps({1: 100}, connections=0, buckets=256) == {}
    assert connection_caps({1: 1}, connections=1e6, buckets=256) == {1: 1}


def test_caps_and_counts_are_steady() -> None:
    assert steady({1: 100, 2: 100}, {1: 104, 2: 110, 3: 7}) == {1: 100, 2: 110, 3: 7}
    assert steady({1: 100}, {}) == {}
    assert smoothed(None, 50) == 50
    assert smoothed(100, 50) == pytest.approx(90)


def view(**settings: Any) -> PoolView:
    return PoolView(**{"states": {1: ACTIVE, 2: ACTIVE}, "current": CURRENT, **settings})


def test_a_new_controller_takes_over_the_stored_shares() -> None:
    balance = Balance({1: 1.5, 2: 0.5})
    balance.update(POOL, view(), 0.0)
    assert balance.shares[1] / balance.shares[2] == pytest.approx(3)


def test_without_stored_shares_they_are_equal_whatever_the_table_has() -> None:
    """The table may have a server in slow start, whose few buckets are not its share."""
    balance = Balance()
    balance.update(POOL, view(), 0.0)
    assert balance.shares == {1: 1.0, 2: 1.0}


def test_full_shares_are_those_without_slow_start() -> None:
    balance = Balance({1: 1.5, 2: 0.5})
    assert balance.full == {1: 1.5, 2: 0.5}
    balance.update(POOL, view(states={1: ACTIVE, 2: JOINING}, ramps={2: 0.1}), 0.0)
    assert balance.full[2] == pytest.approx(balance.full[1] / 3)
    assert balance.shares[2] == pytest.approx(balance.full[2] / 10)


def test_equal_shares_are_equal_whatever_the_table_says() -> None:
    balance = Balance()
    for now in range(5):
        balance.update(EQUAL, view(loads={1: 0.9, 2: 0.1}), now)
    assert balance.shares == {1: 1.0, 2: 1.0}


def moved(frozen: bool) -> bool:
    balance = Balance({1: 1.5, 2: 0.5})
    balance.update(POOL, view(loads={1: 0.9, 2: 0.1}), 0.0)
    before = dict(balance.shares)
    for now in range(1, 4):
        balance.update(POOL, view(loads={1: 0.9, 2: 0.1}, frozen=frozen), now)
    return balance.shares != before


def test_load_moves_shares_unless_they_are_frozen() -> None:
    assert moved(frozen=False)
    assert not moved(frozen=True)


def test_loads_beyond_one_are_compared_when_they_come_from_a_query() -> None:
    pool = PoolConfig(
        name="web", load="prometheus", prometheus_url="http://p", query="q", server_label="l"
    )
    balance = Balance()
    for now in range(5):
        balance.update(pool, view(loads={1: 900.0, 2: 100.0}), now)
    assert balance.shares[1] < 1.5
    assert balance.shares[2] > 0.5


def test_a_lower_gain_follows_load_more_slowly() -> None:
    """Where connections are long, what a move changes is seen late, and shares would ring."""
    even = {1: 128, 2: 128}
    ratios = []
    for gain in (0.07, 0.02):
        balance = Balance()
        for second in range(3):
            found = view(current=even, loads={1: 0.6, 2: 0.4})
            balance.update(PoolConfig(name="web", balance_gain=gain), found, float(second))
        ratios.append(balance.shares[2] / balance.shares[1])
    assert 1.0 < ratios[1] < 1.0 + (ratios[0] - 1.0) / 2


def test_shares_are_stale_when_states_change() -> None:
    balance = Balance()
    assert balance.stale({1: ACTIVE})
    balance.update(POOL, view(), 0.0)
    assert not balance.stale({1: ACTIVE, 2: ACTIVE})
    assert balance.stale({1: ACTIVE, 2: DRAINING})


def test_a_newcomer_starts_slowly() -> None:
    balance = Balance()
    states = {1: ACTIVE, 2: ACTIVE, 3: JOINING}
    balance.update(EQUAL, view(states=states, ramps={3: 0.25}), 0.0)
    assert balance.shares == {1: 1.0, 2: 1.0, 3: 0.25}


def test_caps_are_kept_while_frozen_and_gone_with_the_limit() -> None:
    balance = Balance()
    limited = {"limits": {1: 10}, "connections": {1: 60, 2: 40, 3: 1000}}
    balance.update(POOL, view(**limited), 0.0)
    assert balance.caps == {1: 25}
    balance.update(POOL, view(limits={1: 10}, connections={1: 5, 2: 5}, frozen=True), 1.0)
    assert balance.caps == {1: 25}
    balance.update(POOL, view(), 2.0)
    assert balance.caps == {}


def test_max_connections_caps_a_server_whatever_its_load_says(fleet: Fleet) -> None:
    servers = [{"name": f"s{i}", "dip": f"10.1.0.{i}"} for i in (1, 2, 3, 4)]
    fleet.up(4, server=[{**servers[0], "max_connections": 100}, *servers[1:]])
    for agent in fleet.agents.values():
        agent.connections = 205
    # 100 of 820 connections are 31 of 256 buckets. Rounds that see only some of the new counts lead
    # to another cap on the way, and the dead band may then keep 32 for good.
    rounds = len(fleet.rounds)
    wait_until(lambda: len(fleet.rounds) > rounds + 40, "rounds for the running mean", 60)
    wait_until(lambda: fleet.current()["s1"] <= 32, "820 connections over 256 buckets: 100 in 32")
    others = {name: n for name, n in fleet.current().items() if name != "s1"}
    assert max(others.values()) - min(others.values()) <= 1


def test_load_reported_by_agents_moves_buckets(fleet: Fleet) -> None:
    fleet.up(2, pool=[{"name": "web", "buckets": 1024}])
    fleet.agents["s1"].load = 0.9
    fleet.agents["s2"].load = 0.2
    wait_until(lambda: fleet.current()["s1"] < 480, "the busy one gets less", 20)
    fleet.agents["s1"].load = None
    fleet.agents["s2"].load = 0.9
    wait_until(fleet.calm, "settled")
    before = fleet.current()
    rounds = len(fleet.rounds)
    wait_until(lambda: len(fleet.rounds) > rounds + 30, "some rounds")
    assert fleet.current() == before, "one alone cannot be compared"
