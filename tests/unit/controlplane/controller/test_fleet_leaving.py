"""The real loop over a real store: a server that asks to leave is in no chain when it may go."""

from __future__ import annotations

from functools import partial

import pytest

from controlplane.operator.overview import overview
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet


def drained(fleet: Fleet, name: str) -> None:
    """Drain a server: it stays in chains, as an old hop."""
    fleet.store.request_drain(name, requested=True)
    wait_until(lambda: name not in fleet.current(), "drained")
    wait_until(fleet.calm, "settled")
    assert fleet.states()[name] == "draining"
    assert name in fleet.named()


def has_state(fleet: Fleet, name: str, state: str) -> bool:
    return fleet.states()[name] == state


def in_no_table_in_use(fleet: Fleet, index: int) -> bool:
    return all(
        not (agent.tables["web"].chains == index).any()
        for agent in fleet.agents.values()
        if agent.acks
    )


def test_a_server_that_leaves_may_go_once_no_table_in_use_names_it(fleet: Fleet) -> None:
    config = fleet.up(3)
    drained(fleet, "s3")
    before = fleet.table()
    assert before
    fleet.agents["s3"].leaving = True
    wait_until(lambda: fleet.states()["s3"] == "down", "may go")
    assert in_no_table_in_use(fleet, 3)
    after = fleet.table()
    assert after
    assert (before.chains[:, 0] == after.chains[:, 0]).all(), "nothing else moves"
    assert overview(fleet.store, config, 0.3)["servers"][2]["agent"] == "leaving"
    fleet.go_on(0.5)
    assert fleet.states()["s3"] == "down", "it stays out while it asks"
    fleet.agents["s3"].end(stopped=True)
    fleet.go_on(0.5)
    assert fleet.states() == {"s1": "active", "s2": "active", "s3": "down"}


def test_a_server_that_asks_while_it_has_buckets_is_drained_first(fleet: Fleet) -> None:
    fleet.up(3)
    fleet.agents["s2"].leaving = True
    wait_until(lambda: fleet.states()["s2"] == "down", "may go")
    assert in_no_table_in_use(fleet, 2)
    for agent in fleet.agents.values():
        for old, new in zip(agent.history, agent.history[1:], strict=False):
            moved = old.chains[:, 0] != new.chains[:, 0]
            prepared = (old.chains == new.chains[:, :1]).any(axis=1)
            assert (~moved | prepared).all(), "every bucket moves in two steps"


@pytest.mark.parametrize("withdrawn", [False, True])
def test_it_may_not_go_while_another_server_has_an_older_table(
    fleet: Fleet, *, withdrawn: bool
) -> None:
    fleet.up(3)
    drained(fleet, "s3")
    fleet.agents["s1"].acks = False
    fleet.agents["s3"].ready = not withdrawn
    fleet.agents["s3"].leaving = True
    wait_until(lambda: "s3" not in fleet.named(), "the newest table is without it")
    fleet.go_on(1.5)
    assert fleet.states()["s3"] == "draining"
    fleet.agents["s1"].acks = True
    wait_until(lambda: fleet.states()["s3"] == "down", "may go")
    assert in_no_table_in_use(fleet, 3)


def test_a_server_without_an_agent_need_not_take_what_it_does_not_use(fleet: Fleet) -> None:
    """`lbctl down` reports for it, after it has withdrawn."""
    fleet.up(3)
    drained(fleet, "s3")
    agent = fleet.agents["s3"]
    agent.acks, agent.ready, agent.leaving = False, False, True
    wait_until(lambda: fleet.states()["s3"] == "down", "may go")


def test_one_that_does_not_leave_after_all_comes_back(fleet: Fleet) -> None:
    fleet.up(3)
    fleet.agents["s3"].leaving = True
    wait_until(lambda: fleet.states()["s3"] == "down", "may go")
    fleet.agents["s3"].leaving = False
    wait_until(lambda: fleet.states()["s3"] == "active", "back")
    wait_until(lambda: "s3" in fleet.current(), "with buckets")


def test_leaving_servers_do_not_look_like_many_deaths(fleet: Fleet) -> None:
    """Two of five leave; then one dies, and is declared down in spite of the panic threshold."""
    fleet.up(5)
    for name in ("s4", "s5"):
        fleet.agents[name].leaving = True
        wait_until(partial(has_state, fleet, name, "down"), f"{name} may go")
    fleet.prober.dead.add(next(s.dip for s in fleet.cluster().servers if s.name == "s3"))
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.states()["s3"] == "down", "declared down")
