"""What may be done with a pool's table now, and the states that its builder gets."""

from __future__ import annotations

from ipaddress import IPv4Address

import numpy as np

from controlplane.decide.health import PoolHealth
from controlplane.decide.pool_step import Step, decide_pool, pool_states, trusted_indices
from controlplane.decide.settlement import Settlement
from controlplane.domain.objects import Cluster, Server, ServerState, Table
from controlplane.domain.table_facts import TableFacts, table_facts

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
SETTLED = Settlement("table/web", 3)
WAITING = Settlement("table/web", 3, waiting_for=("b",))
PASSABLE = Settlement("table/web", 3, waiting_for=("b",), silent=("b",))
FACTS = TableFacts(named=frozenset({1, 2, 3}), current={1: 128, 2: 128})
FIT = PoolHealth()
PANIC = PoolHealth(frozenset("ab"), panic=True)


def cluster(*states: ServerState) -> Cluster:
    return Cluster(
        5,
        servers=tuple(
            Server(f"s{i}", IPv4Address(i), i, state) for i, state in enumerate(states, 1)
        ),
    )


def test_facts_of_a_table() -> None:
    chains = np.array([[1, 2], [1, 0], [2, 0], [2, 4]], dtype=np.uint16)
    table = Table("web", 1, 1, chains, np.zeros(4, dtype=np.uint32))
    assert table_facts(table) == TableFacts(frozenset({1, 2, 4}), {1: 2, 2: 2}, 2)
    flat = Table("web", 1, 1, chains[:, :1], np.zeros(4, dtype=np.uint32))
    assert table_facts(flat) == TableFacts(frozenset({1, 2}), {1: 2, 2: 2}, 0)


def test_a_table_names_only_servers_of_a_settled_generation() -> None:
    settled = cluster(ACTIVE, JOINING, REGISTERED, DRAINING, DOWN)
    assert trusted_indices(settled, FACTS) == {1, 2, 4}
    assert trusted_indices(None, FACTS) == {1, 2, 3}
    assert trusted_indices(None, TableFacts()) == frozenset()


def states(
    found: Cluster,
    trusted: set[int],
    serving: set[str] | None = None,
    unhealthy: set[str] | None = None,
    leaving: frozenset[str] = frozenset(),
) -> dict[int, ServerState]:
    members = {server.name for server in found.servers} if serving is None else serving
    return pool_states(found, FACTS, members, trusted, unhealthy or set(), leaving)


def test_states_as_they_are() -> None:
    found = states(cluster(ACTIVE, JOINING, DRAINING, DOWN, REGISTERED), {1, 2, 3})
    assert found == {1: ACTIVE, 2: JOINING, 3: DRAINING, 4: DOWN, 5: REGISTERED}


def test_one_who_joins_in_an_unsettled_generation_is_not_yet_there() -> None:
    assert states(cluster(ACTIVE, ACTIVE, JOINING), {1, 2})[3] is REGISTERED


def test_a_failing_service_drains_in_this_pool() -> None:
    assert states(cluster(ACTIVE, ACTIVE), {1, 2}, unhealthy={"s2"})[2] is DRAINING


def test_a_server_of_other_pools_only_is_drained_here() -> None:
    assert states(cluster(ACTIVE, ACTIVE), {1, 2}, serving={"s1"})[2] is DRAINING


def test_a_drained_server_that_leaves_leaves_the_chains() -> None:
    found = cluster(DRAINING, ACTIVE, DRAINING)
    asked = states(found, {1, 2, 3}, leaving=frozenset({"s1", "s2", "s3"}))
    assert asked == {1: DRAINING, 2: ACTIVE, 3: DOWN}, "s1 has buckets, s2 is not drained yet"
    assert states(found, {1, 2, 3})[3] is DRAINING, "it did not ask"


def test_an_index_that_nobody_knows_is_down() -> None:
    assert states(cluster(ACTIVE, ACTIVE), {1, 2})[3] is DOWN


def test_a_first_table_waits_for_somebody_to_serve() -> None:
    assert decide_pool(None, None, {1: REGISTERED}, FIT).step is Step.WAIT
    assert decide_pool(None, None, {1: JOINING}, FIT).step is Step.BUILD


def test_settled_goes_on_and_unsettled_waits() -> None:
    calm = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE}
    assert decide_pool(FACTS, SETTLED, calm, FIT).step is Step.BUILD
    assert decide_pool(FACTS, WAITING, calm, FIT).step is Step.WAIT


def test_a_death_never_waits() -> None:
    plan = decide_pool(FACTS, WAITING, {1: ACTIVE, 2: ACTIVE, 3: DOWN}, FIT)
    assert plan.step is Step.DEATHS_ONLY
    gone = decide_pool(FACTS, WAITING, {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: DOWN}, FIT)
    assert gone.step is Step.WAIT


def test_moves_for_load_wait_for_a_silent_agent_for_ever() -> None:
    assert decide_pool(FACTS, PASSABLE, {1: ACTIVE, 2: ACTIVE, 3: ACTIVE}, FIT).step is Step.WAIT


def test_joins_and_drains_go_on_without_it_and_say_so() -> None:
    for states_ in ({1: ACTIVE, 2: DRAINING}, {1: ACTIVE, 2: ACTIVE, 3: JOINING}):
        plan = decide_pool(FACTS, PASSABLE, states_, FIT)
        assert (plan.step, plan.gone_on_without) == (Step.BUILD, ("b",))
    drained = {1: ACTIVE, 2: ACTIVE, 3: DRAINING}
    assert decide_pool(FACTS, PASSABLE, drained, FIT).step is Step.WAIT


def test_in_a_panic_the_table_comes_back_as_urgently_as_a_join() -> None:
    calm = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE}
    plan = decide_pool(FACTS, SETTLED, calm, PANIC, silent=("b",))
    assert (plan.step, plan.panic) == (Step.BUILD, True)
    assert decide_pool(FACTS, PASSABLE, calm, PANIC, silent=("b",)).step is Step.BUILD
    assert decide_pool(FACTS, WAITING, calm, PANIC).step is Step.WAIT, "settled first, as always"
    death = decide_pool(FACTS, WAITING, {1: ACTIVE, 2: DOWN, 3: ACTIVE}, PANIC)
    assert death.step is Step.DEATHS_ONLY


def test_while_a_server_withdraws_the_table_stays() -> None:
    """Its routers still send to it, and it could not forward: deaths are the only exception."""
    found = states(cluster(ACTIVE, JOINING, REGISTERED), {1, 2, 3})
    decision = decide_pool(FACTS, SETTLED, found, FIT, withdrawing=True)
    assert decision.step is Step.WAIT
    assert decide_pool(FACTS, SETTLED, found, FIT).step is Step.BUILD
    found = states(cluster(ACTIVE, DOWN, REGISTERED), {1, 2, 3})
    assert decide_pool(FACTS, WAITING, found, FIT, withdrawing=True).step is Step.DEATHS_ONLY
