"""The real loop over a real store with a simulated fleet."""

from __future__ import annotations

import itertools
import shutil
import time

import numpy as np
import pytest

from controlplane.domain.objects import Report, ServiceHealth, Table
from controlplane.operator.overview import overview
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.store import FileStore
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import EVEN, dip


def one_step_moves(old: Table, new: Table) -> int:
    """Count buckets whose new current server was not in the old chain."""
    moved = old.chains[:, 0] != new.chains[:, 0]
    behind = (old.chains == new.chains[:, :1]).any(axis=1)
    return int(np.count_nonzero(moved & ~behind))


def test_bootstrap_gives_everybody_an_even_share_in_the_first_table(fleet: Fleet) -> None:
    fleet.up(4)
    assert fleet.current() == EVEN
    first = fleet.agents["s1"].history[0]
    assert first.generation == 1
    assert len(np.unique(first.chains[:, 0])) == 4


def test_the_first_table_waits_for_late_comers_but_not_for_ever(fleet: Fleet) -> None:
    fleet.control(fleet.config(3))
    fleet.agent("s1")
    started = time.monotonic()
    fleet.go_on(0.2)
    fleet.agent("s2")
    wait_until(lambda: len(fleet.current()) == 2, "a table without s3")
    assert time.monotonic() - started > 0.5
    assert fleet.states()["s3"] == "registered"


def test_a_newcomer_is_known_and_settled_before_it_is_in_a_table(fleet: Fleet) -> None:
    config = fleet.config(4)
    for name in ("s1", "s2", "s3"):
        fleet.agent(name)
    fleet.control(config)
    wait_until(lambda: len(fleet.current()) == 3, "three")
    fleet.agent("s4")
    wait_until(lambda: fleet.states().get("s4") == "active", "s4 active")
    wait_until(lambda: fleet.current() == EVEN, f"even: {fleet.current()}")
    for old, new in itertools.pairwise(fleet.agents["s1"].history):
        assert one_step_moves(old, new) == 0


def test_slow_start_grows_a_share(fleet: Fleet) -> None:
    config = fleet.config(2, slow_start_seconds=1.2)
    fleet.agent("s1")
    fleet.control(config)
    wait_until(lambda: fleet.states().get("s1") == "active", "s1", 10.0)
    fleet.agent("s2")
    wait_until(lambda: fleet.current().get("s2", 0) > 0, "a first share")
    assert fleet.current()["s2"] < 100
    wait_until(lambda: fleet.current().get("s2") == 128, "a full share")
    shares = [int(np.count_nonzero(t.chains[:, 0] == 2)) for t in fleet.agents["s1"].history]
    assert shares == sorted(shares)
    assert len(set(shares)) > 3


def test_drain_moves_in_two_steps_and_keeps_the_server_as_a_later_hop(fleet: Fleet) -> None:
    fleet.up(4)
    since = len(fleet.agents["s1"].history)
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" not in fleet.current(), "s2 is current nowhere")
    assert fleet.states()["s2"] == "draining"
    assert "s2" in fleet.named()
    wait_until(lambda: len(fleet.agents["s1"].history) == since + 2, "both steps in use")
    steps = fleet.agents["s1"].history[since - 1 :]
    assert [one_step_moves(old, new) for old, new in itertools.pairwise(steps)] == [0, 0]
    wait_until(  # metrics follow at the end of the round that published
        lambda: fleet.metric("moved_buckets_total", pool="web") == 256 + 64, "all moves counted"
    )
    assert fleet.metric("prepared_buckets_total", pool="web") == 64
    assert fleet.metric("hops_forced_total", pool="web") == 0, "a rate begins at 0"
    assert fleet.metric("build_seconds_count", pool="web")


def test_the_second_step_does_not_wait_for_the_tick(fleet: Fleet) -> None:
    fleet.up(3, tick_seconds=5.0)
    since = len(fleet.agents["s1"].history)
    fleet.store.request_drain("s2", requested=True)
    took = wait_until(lambda: "s2" not in fleet.current(), "s2 is current nowhere")
    assert len(fleet.agents["s1"].history) >= since
    assert took < 1.0


def test_undrain_brings_a_server_back(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" not in fleet.current(), "drained")
    fleet.store.request_drain("s2", requested=False)
    wait_until(lambda: fleet.current() == EVEN, "even again")
    wait_until(lambda: fleet.states()["s2"] == "active", "active")


def test_joins_and_drains_go_on_after_a_silent_agents_time(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.agents["s2"].end()
    fleet.store.request_drain("s3", requested=True)
    wait_until(lambda: fleet.states()["s3"] == "draining", "noted: the last generation is settled")
    took = wait_until(lambda: "s3" not in fleet.current(), "s3 is current nowhere")
    assert took > 0.8
    assert fleet.states()["s2"] == "active"


def test_one_that_speaks_but_never_acknowledges_holds_a_drain_back(fleet: Fleet) -> None:
    fleet.up(3)
    fleet.agents["s2"].acks = False
    fleet.store.request_drain("s3", requested=True)
    wait_until(lambda: fleet.states()["s3"] == "draining", "noted")
    fleet.go_on(2.0)
    assert "s3" in fleet.current()
    fleet.agents["s2"].acks = True
    wait_until(lambda: "s3" not in fleet.current(), "drained")


def test_a_failing_check_drains_in_its_pool_only_and_back(fleet: Fleet) -> None:
    service = {"vip": "192.0.2.1", "protocol": "tcp", "check": {"type": "tcp"}}
    fleet.up(
        4,
        pool=[
            {"name": "web", "buckets": 256, "balance": "equal"},
            {"name": "mail", "buckets": 256, "balance": "equal"},
        ],
        service=[
            {"name": "http", "port": 80, "pool": "web", **service},
            {"name": "smtp", "port": 25, "pool": "mail", **service},
        ],
    )
    fleet.agents["s2"].checks = {"http": ServiceHealth(healthy=False), "smtp": ServiceHealth(True)}
    wait_until(lambda: "s2" not in fleet.current("web"), "s2 serves no web")
    assert "s2" in fleet.named("web"), "open connections stay"
    assert fleet.current("mail") == EVEN
    assert fleet.states()["s2"] == "active"
    fleet.agents["s2"].checks = {"http": ServiceHealth(healthy=True)}
    wait_until(lambda: fleet.current("web") == EVEN, "even again")


def test_a_majority_failing_keeps_the_last_table(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.publish.pool.CALM_SECONDS", 0.5)
    config = fleet.up(4)
    assert not overview(fleet.store, config, 0.0)["pools"][0]["panic"]
    for name in ("s1", "s2", "s3"):
        fleet.agents[name].checks = {"http": ServiceHealth(healthy=False)}
    wait_until(lambda: fleet.rounds[-1].outcomes["web"].health.panic, "panic")
    assert fleet.metric("panic", pool="web") == 1
    capsys.readouterr()
    print_servers(overview(fleet.store, config, 0.0))
    shown = capsys.readouterr().out
    assert "PANIC: too many servers of pool web are unhealthy" in shown
    assert shown.count(" http ") == 3, "each unhealthy server with its service"
    assert " 50% " in shown
    current = fleet.current()
    generation = fleet.published.generations()
    fleet.go_on(0.4)
    fleet.published.refresh()
    assert fleet.published.generations() == generation
    for name in ("s1", "s2", "s3"):
        fleet.agents[name].checks = {"http": ServiceHealth(healthy=True)}
    wait_until(lambda: not fleet.rounds[-1].outcomes["web"].health.panic, "over")
    assert current["s4"] > 0
    wait_until(lambda: fleet.current() == EVEN, "even again")


def test_a_new_controller_changes_nothing_before_it_has_heard(fleet: Fleet) -> None:
    config = fleet.up(4)
    wait_until(fleet.calm, "settled")
    fleet.stop_control()
    before = fleet.published.generations()
    fleet.store.wait_reports(0.2)
    for agent in fleet.agents.values():
        agent.reports = False
    fleet.rounds.clear()
    fleet.control(config)
    wait_until(lambda: len(fleet.rounds) > 3, "rounds of the new one")
    for agent in fleet.agents.values():
        agent.reports = True
    fleet.go_on(0.5)
    fleet.published.refresh()
    assert fleet.published.generations() == before


def test_a_new_controller_finishes_what_the_old_one_began(fleet: Fleet) -> None:
    config = fleet.up(4)
    for agent in fleet.agents.values():
        agent.acks = False
    before = fleet.table()
    assert before
    fleet.store.request_drain("s2", requested=True)
    wait_until(
        lambda: (table := fleet.table()) is not None and table.generation > before.generation,
        "the first step",
    )
    fleet.stop_control()
    assert "s2" in fleet.current()
    for agent in fleet.agents.values():
        agent.acks = True
    fleet.control(config)
    wait_until(lambda: "s2" not in fleet.current(), "the second step")
    history = fleet.agents["s1"].history
    assert all(one_step_moves(old, new) == 0 for old, new in itertools.pairwise(history))


def test_a_removed_server_is_drained_and_leaves_when_it_stopped(fleet: Fleet) -> None:
    fleet.up(3)
    loop = fleet.loop
    assert loop
    loop.configure(fleet.config(2), fleet.prober)
    wait_until(lambda: "s3" not in fleet.current(), "drained")
    assert fleet.states()["s3"] == "draining"
    fleet.agents["s3"].end(stopped=True)
    wait_until(lambda: "s3" not in fleet.states(), "gone")
    assert "s3" not in fleet.store.reports()
    assert fleet.table() is not None
    assert (fleet.facts().named) == {1, 2}


def test_what_is_known_of_a_server_that_left_is_forgotten_though_the_store_stumbled(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a later server of the same name would be drained."""
    fleet.up(3)
    loop = fleet.loop
    assert loop
    fleet.store.request_drain("s3", requested=True)
    stumbles = iter([StoreUnavailable("no space left")])
    forget = FileStore.forget

    def stumble(store: FileStore, server: str) -> None:
        for error in stumbles:
            raise error
        forget(store, server)

    monkeypatch.setattr(FileStore, "forget", stumble)
    loop.configure(fleet.config(2), fleet.prober)
    wait_until(lambda: "s3" not in fleet.current(), "drained")
    fleet.agents["s3"].end(stopped=True)
    wait_until(lambda: "s3" not in fleet.states(), "gone")
    assert fleet.store.drain_requests() == {}
    assert "s3" not in fleet.store.acknowledgements()


def test_load_moves_wait_for_a_silent_agent(fleet: Fleet) -> None:
    """A healed server would get its buckets back, but one agent is silent."""
    fleet.up(4)
    fleet.agents["s2"].checks = {"http": ServiceHealth(healthy=False)}
    wait_until(lambda: "s2" not in fleet.current(), "drained for health")
    wait_until(fleet.calm, "settled")
    fleet.agents["s1"].reports = False
    wait_until(lambda: fleet.rounds[-1].fleet.servers["s1"].silent, "silent")
    fleet.agents["s2"].checks = {"http": ServiceHealth(healthy=True)}
    fleet.go_on(2.0)
    assert "s2" not in fleet.current()
    fleet.agents["s1"].reports = True
    wait_until(lambda: fleet.current() == EVEN, "even again")


@pytest.mark.parametrize("pools", [1, 3])
def test_racing_controllers_never_overwrite_each_other(fleet: Fleet, pools: int) -> None:
    """Leadership keeps them apart in life; here both run, and only compare-and-set is left."""
    names = [{"name": f"p{i}", "buckets": 256, "balance": "equal"} for i in range(pools)]
    config = fleet.config(3, pool=names, service=[])
    fleet.control(config)
    rival = Fleet(fleet.directory)
    rival.control(config)
    try:
        for server in config.server:
            fleet.agent(server.name)
        wait_until(lambda: set(fleet.states().values()) == {"active"}, "active")
        fleet.store.request_drain("s3", requested=True)
        wait_until(lambda: "s3" not in fleet.current("p0"), "drained")
    finally:
        rival.close()
    history = fleet.agents["s1"].history
    generations = [table.generation for table in history if table.pool == "p0"]
    assert generations == sorted(set(generations))
    of_p0 = [table for table in history if table.pool == "p0"]
    for old, new in itertools.pairwise(of_p0):
        if new.generation == old.generation + 1:
            assert one_step_moves(old, new) == 0


def test_a_store_that_was_lost_is_not_begun_anew(fleet: Fleet) -> None:
    """Its generations would be refused, its new keys would send flows astray."""
    fleet.up(3)
    before = dict(fleet.published.generations())
    for agent in fleet.agents.values():
        agent.end()
    away = fleet.directory.with_name("away")
    fleet.directory.rename(away)
    rounds = len(fleet.rounds)
    fleet.go_on(0.5, failing=True)
    assert not list(fleet.directory.glob("documents/*/*.json"))
    assert len(fleet.rounds) <= rounds + 1
    shutil.rmtree(fleet.directory, ignore_errors=True)
    away.rename(fleet.directory)
    wait_until(lambda: len(fleet.rounds) > rounds + 1, "it goes on")
    fleet.published.refresh()
    assert fleet.published.generations() == before


def test_a_pool_taken_out_of_the_settings_while_a_generation_is_unsettled(fleet: Fleet) -> None:
    """It stays until that generation is settled; deaths are found meanwhile."""
    pools = [{"name": name, "buckets": 256, "balance": "equal"} for name in ("web", "mail")]
    fleet.up(4, pool=pools)
    loop = fleet.loop
    assert loop
    fleet.agents["s2"].acks = False
    fleet.store.request_drain("s1", requested=True)
    wait_until(lambda: fleet.states()["s1"] == "draining", "a generation that s2 holds back")
    loop.configure(fleet.config(4), fleet.prober)
    fleet.prober.dead.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: "s3" not in fleet.named("mail"), "a death in the pool that is to go")
    fleet.agents["s2"].acks = True
    wait_until(lambda: [p.name for p in fleet.cluster().pools] == ["web"], "it is gone")


def test_settings_that_agents_refuse_are_replaced_by_those_that_they_take(fleet: Fleet) -> None:
    """No agent has to stop for it: a document that no agent takes holds nothing back."""
    fleet.up(2)
    loop = fleet.loop
    assert loop
    for agent in fleet.agents.values():
        agent.most_services = 2
    many = [
        {"name": f"a{n}", "vip": f"192.0.2.{n}", "protocol": "tcp", "port": 81, "pool": "web"}
        for n in (1, 2, 3)
    ]
    loop.configure(fleet.config(3, service=many), fleet.prober)
    refused = fleet.cluster().generation + 1
    wait_until(
        lambda: all(agent.refused == refused for agent in fleet.agents.values()), "refused by all"
    )
    fleet.agent("s3")
    loop.configure(fleet.config(3, service=many[:2]), fleet.prober)
    wait_until(lambda: fleet.states().get("s3") == "active", "a newcomer joins again")
    wait_until(fleet.calm, "settled")
    assert len(fleet.cluster().services) == 2


def test_a_pool_that_one_agent_would_not_let_go_comes_back_as_it_was(fleet: Fleet) -> None:
    """s1 goes on with the pool that the others have given up: it would refuse another key."""
    fleet.up(2)
    loop = fleet.loop
    assert loop
    (web,) = fleet.cluster().pools
    fleet.agents["s1"].most_services = 1
    services = [
        {"name": f"a{n}", "vip": f"192.0.2.{n}", "protocol": "tcp", "port": 81, "pool": "api"}
        for n in (1, 2)
    ]
    api = [{"name": "api", "buckets": 256}]
    loop.configure(fleet.config(3, service=services, pool=api), fleet.prober)
    refused = fleet.cluster().generation + 1
    wait_until(lambda: fleet.agents["s1"].refused == refused, "refused by s1")
    s2 = fleet.agents["s2"]
    wait_until(lambda: s2.cluster is not None and s2.cluster.generation == refused, "not by s2")
    fleet.agent("s3")
    loop.configure(fleet.config(3), fleet.prober)
    wait_until(lambda: fleet.states().get("s3") == "active", "a newcomer joins again")
    wait_until(fleet.calm, "settled")
    assert fleet.cluster().pools == (web,)


def test_reports_under_invented_names_are_counted_and_not_read(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of them may have half a megabyte, and there is a round for each report of the fleet."""
    fleet.up(2)
    assert fleet.metric("unknown_names") == 0
    for number in range(3):
        fleet.store.report(Report(f"invented{number}", "b", 1, 0.0))
    wait_until(lambda: fleet.metric("unknown_names") == 3, "they are counted")
    assert fleet.rounds[-1].fleet.reports.keys() == {"s1", "s2"}
    assert "reports of names that are not in the settings" in capsys.readouterr().out
    for number in range(3):
        fleet.store.forget(f"invented{number}")
    wait_until(lambda: fleet.metric("unknown_names") == 0, "none is left")
