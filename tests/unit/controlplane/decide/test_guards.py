"""Which drains a guard refuses, with numbers."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address

import numpy as np
import pytest

from controlplane.builder import BuildRequest
from controlplane.decide.guards import Capacity, breaks, capacity_of, lacks
from controlplane.decide.health import PoolHealth
from controlplane.decide.plan.effect import DrainEffect, drain_effect
from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import Cluster, Pool, Server, ServerState, Table
from controlplane.settings.models import ControlConfig

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
NOW, DRAIN = 10_000, 900.0


def capacity(
    *states: ServerState,
    min_active: float = 0.5,
    unhealthy: Collection[str] = (),
    panic: bool = False,
    silent: Collection[str] = (),
    leaving: Collection[str] = (),
    unknown: Collection[str] = (),
    elsewhere: Collection[str] = (),
) -> Capacity:
    names = [f"s{i}" for i in range(1, len(states) + 1)]
    pools = [{"name": "web", "min_active": min_active}, {"name": "mail"}]
    servers = [
        {"name": name, "dip": f"10.1.0.{i}", "pools": ["mail" if name in elsewhere else "web"]}
        for i, name in enumerate(names, 1)
    ]
    config = ControlConfig.model_validate({"server": [*servers], "pool": pools})
    cluster = Cluster(
        1,
        tuple(
            Server(name, IPv4Address("10.1.0.0") + i, i, state)
            for i, (name, state) in enumerate(zip(names, states, strict=True), 1)
        ),
    )
    views = {
        name: ServerView(name, known=name not in unknown, silent=name in silent) for name in names
    }
    health = PoolHealth(frozenset(unhealthy), panic)
    return capacity_of(config, config.pool[0], cluster, views, health, leaving)


def test_half_must_stay_and_always_one() -> None:
    four = capacity(ACTIVE, ACTIVE, ACTIVE, ACTIVE)
    assert (four.members, four.needed, four.without("s1")) == (4, 2, 3)
    assert lacks("s1", four) is None
    three = capacity(ACTIVE, ACTIVE, ACTIVE, DRAINING)
    assert lacks("s1", three) is None
    assert lacks("s1", capacity(ACTIVE, ACTIVE, DRAINING, DOWN)) == (
        "pool web would have 1 of 4 servers active, and needs 2 (min_active 0.5); "
        "s3 is draining, s4 is down"
    )
    last = lacks("s1", capacity(ACTIVE, DRAINING, min_active=0))
    assert last == (
        "pool web would have 0 of 2 servers active, and needs 1 (min_active 0); s2 is draining"
    )
    assert lacks("s1", capacity(ACTIVE, min_active=0)) is not None


@pytest.mark.parametrize(
    ("share", "members", "needed"), [(0.5, 5, 3), (0.75, 4, 3), (1, 3, 3), (0.1, 10, 1), (0, 9, 1)]
)
def test_the_share_is_rounded_up(share: float, members: int, needed: int) -> None:
    assert capacity(*[ACTIVE] * members, min_active=share).needed == needed


def test_only_who_serves_now_counts() -> None:
    """One that joins, is unhealthy or silent, or is about to drain carries no full share."""
    assert lacks("s1", capacity(ACTIVE, ACTIVE, JOINING)) is not None
    assert lacks("s1", capacity(ACTIVE, ACTIVE, ACTIVE, unhealthy=["s2"])) is not None
    assert lacks("s1", capacity(ACTIVE, ACTIVE, ACTIVE, silent=["s2"])) is not None
    assert lacks("s1", capacity(ACTIVE, ACTIVE, ACTIVE, leaving=["s2"])) is not None
    ignored = capacity(ACTIVE, ACTIVE, ACTIVE, unhealthy=["s1", "s2"], panic=True)
    assert lacks("s1", ignored) is None, "in a panic checks are ignored"


def test_who_never_reported_or_serves_another_pool_is_not_a_part_of_it() -> None:
    planned = capacity(ACTIVE, ACTIVE, REGISTERED, REGISTERED, unknown=["s3", "s4"])
    assert (planned.members, lacks("s1", planned)) == (2, None)
    waiting = capacity(ACTIVE, ACTIVE, REGISTERED, REGISTERED)
    assert lacks("s1", waiting) is not None, "these two are there, and drained"
    assert capacity(ACTIVE, ACTIVE, elsewhere=["s2"]).members == 1


def test_one_that_serves_nobody_takes_nothing_away() -> None:
    found = capacity(ACTIVE, ACTIVE, DRAINING, DRAINING, unhealthy=["s2"])
    assert lacks("s2", found) is None
    assert lacks("s1", found) is not None
    assert lacks("s2", capacity(ACTIVE, ACTIVE, DRAINING, silent=["s1", "s2"])) is not None


def request(depth: int, states: dict[int, ServerState]) -> BuildRequest:
    return BuildRequest(
        pool=Pool("web", 256, depth, key_id="k"),
        cluster_generation=1,
        generation=2,
        shares={},
        states=states,
        settled=True,
        now=NOW,
        drain_time_seconds=DRAIN,
    )


def table(*chain: int, age: int) -> Table:
    """A table in which half of the buckets have this chain, the others are at the second."""
    chains = np.zeros((256, len(chain)), dtype=np.uint16)
    chains[::2] = chain
    chains[1::2, 0] = 2
    return Table("web", 1, 1, chains, np.full(256, NOW - age, dtype=np.uint32))


def test_the_effect_of_a_drain_is_what_the_builder_would_do() -> None:
    states = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: DRAINING}
    effect = drain_effect(table(1, 4, age=100), request(2, states), 1)
    assert (effect.buckets, effect.forced, effect.full_seconds) == (128, 128, 800.0)
    assert drain_effect(table(1, 4, age=900), request(2, states), 1).forced == 0
    longer = drain_effect(table(1, 4, 0, 0, age=100), request(4, states), 1)
    assert (longer.buckets, longer.forced) == (128, 0), "chains of four have space"
    back = drain_effect(table(1, 2, age=100), request(2, {1: ACTIVE, 2: ACTIVE}), 1)
    assert back.forced == 0, "a rotation pushes nobody out"
    assert drain_effect(table(1, 4, age=1), request(2, {1: ACTIVE}), 1) == DrainEffect(
        128, nobody=True
    )


def test_what_would_be_forced_anyway_is_not_this_drains() -> None:
    states = {1: DRAINING, 2: ACTIVE, 3: ACTIVE, 4: DRAINING}
    assert drain_effect(table(1, 4, age=100), request(2, states), 1).forced == 0
    assert drain_effect(table(1, 4, age=100), request(2, states), 2).forced == 0


def test_forced_hops_are_refused_with_the_time_that_it_takes() -> None:
    assert breaks("web", DrainEffect(9)) is None
    assert breaks("web", DrainEffect(9999, forced=1234, full_seconds=700.2)) == (
        "pool web would lose 1,234 later hops that may hold connections: its chains are full for "
        "701 s more"
    )
