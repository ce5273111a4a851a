"""Servers that others do not reach, with the real loop over a real store (docs/signs.md)."""

from __future__ import annotations

import pytest

from controlplane.operator.overview import overview
from controlplane.operator.why import why
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import EVEN

OTHERS = ("s1", "s2", "s4")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is back after one second of reach; the other times stay."""
    monkeypatch.setattr("controlplane.decide.cut_off.BACK_SECONDS", 1.0)


def lose(fleet: Fleet, *lost: str) -> None:
    for name in OTHERS:
        fleet.agents[name].lost = lost


def shown(fleet: Fleet, capsys: pytest.CaptureFixture[str], servers: int = 4) -> str:
    capsys.readouterr()
    print_servers(overview(fleet.store, fleet.config(servers), 0.8))
    return capsys.readouterr().out


def test_a_server_that_others_lose_withdraws_then_leaves_then_comes_back(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    generation = fleet.table()
    lose(fleet, "s3")
    wait_until(lambda: fleet.states()["s3"] == "registered", "its agent withdraws its routes")
    assert fleet.named() == {"s1", "s2", "s3", "s4"}
    assert fleet.table() == generation, "tables stay meanwhile"
    waited = wait_until(lambda: fleet.states()["s3"] == "down", "it leaves")
    assert waited > 1.5
    wait_until(lambda: "s3" not in fleet.named(), "it is in no chain")
    assert fleet.metric("server_cut_off", server="s3") == 1
    assert fleet.metric("server_paths_lost", server="s3") == 3
    text = shown(fleet, capsys)
    assert "down (cut off)" in text
    assert "encapsulated packets to s3 are lost from s1, s2, s4" in text
    fleet.go_on(1.5)
    assert fleet.states()["s3"] == "down"
    lose(fleet)
    waited = wait_until(lambda: fleet.states()["s3"] == "active", "it is back")
    assert waited > 0.8
    wait_until(lambda: fleet.current() == EVEN, "a full share again")
    assert fleet.metric("server_cut_off", server="s3") == 0
    assert "PATHS" not in shown(fleet, capsys)


def test_a_server_that_is_reached_again_is_not_down_without_a_reason(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent speaks, nobody loses it any more, and for 30 s it stays down."""
    monkeypatch.setattr("controlplane.decide.cut_off.BACK_SECONDS", 30.0)
    fleet.up(4)
    lose(fleet, "s3")
    wait_until(lambda: fleet.states()["s3"] == "down", "it left")
    lose(fleet)
    with fleet.store.lead("c1"):
        wait_until(lambda: not fleet.rounds[-1].groups.losses, "the others reach it")
        fleet.go_on(0.3)
        reason = "the others reach it again: it may join in at most 30 s"
        text = shown(fleet, capsys)
        assert "down (cut off)" in text
        assert f"s3 is cut off: {reason}" in text
        (pool,) = why(fleet.store, "s3")["pools"]
        assert [missing["detail"] for missing in pool["missing"]] == [f"down: {reason}"]


def test_of_two_servers_nobody_leaves_and_it_is_shown(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(2)
    before = fleet.cluster().generation
    fleet.agents["s1"].lost = ("s2",)
    fleet.agents["s2"].lost = ("s1",)
    wait_until(lambda: fleet.metric("servers_split") == 1, "it is a metric")
    fleet.go_on(2.0)
    assert fleet.cluster().generation == before
    assert "SPLIT" in shown(fleet, capsys, 2)


def test_a_new_controller_keeps_it_out(fleet: Fleet) -> None:
    config = fleet.up(4)
    lose(fleet, "s3")
    wait_until(lambda: fleet.states()["s3"] == "down", "it left")
    fleet.stop_control()
    fleet.control(config)
    fleet.go_on(2.0)
    assert fleet.states()["s3"] in {"down", "registered"}
    assert "s3" not in fleet.named()


def test_a_newcomer_that_others_lose_waits(fleet: Fleet) -> None:
    config = fleet.config(4)
    for name in OTHERS:
        fleet.agent(name, lost=("s3",))
    fleet.control(config)
    wait_until(lambda: list(fleet.states().values()).count("active") == 3, "three are active")
    fleet.agent("s3")
    fleet.go_on(1.5)
    assert fleet.states()["s3"] == "registered"
    lose(fleet)
    wait_until(lambda: fleet.states()["s3"] == "active", "it joins")
