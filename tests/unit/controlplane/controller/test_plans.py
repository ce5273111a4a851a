"""`lbctl plan` beside a real controller: what it foresees is what then happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lb.cli.main as cli
from controlplane.documents.controller import decode_controller
from controlplane.documents.presence import decode_presence
from controlplane.domain.controller_state import CONTROLLER, DrainRequest
from controlplane.domain.history import Event, EventKind
from controlplane.domain.objects import Table
from netns.polling import wait_until
from tests.unit.controlplane import conftest
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.controller.test_empty_hops import BUSY, Counting

DEEP = {"name": "web", "buckets": 256, "balance": "equal", "depth": 2, "min_active": 0.25}


@pytest.fixture
def control(fleet: Fleet) -> Path:
    """The settings file of a fleet of four."""
    return fleet.write_settings(4)


def planned(
    control: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run(["plan", kind, name, "--json", "--config", str(control)]) == 0
    out = capsys.readouterr().out  # the controller's log is there, too
    found: dict[str, Any] = json.JSONDecoder().raw_decode(out[out.index("{\n") :])[0]
    return found


def pool_of(found: dict[str, Any], stage: int = 0) -> dict[str, Any]:
    (pool,) = found["plan"]["stages"][stage]["pools"]
    assert isinstance(pool, dict)
    return pool


def moved(before: Table, fleet: Fleet) -> int:
    after = fleet.table()
    assert after
    return int(np.count_nonzero(before.chains[:, 0] != after.chains[:, 0]))


def table(fleet: Fleet) -> Table:
    found = fleet.table()
    assert found
    return found


def dumped(fleet: Fleet) -> bool:
    """Whether the store has a dump of each server by the newest cluster document."""
    found = [decode_presence(seen.body) for seen in fleet.store.dumps().values()]
    newest = fleet.cluster().generation
    return len(found) == 4 and all(dump.cluster_generation >= newest for dump in found)


def test_a_drain_and_its_end_do_what_their_plans_show(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    with fleet.store.lead("test"):
        plan = planned(control, capsys, "drain", "s2")
        before = table(fleet)
        assert cli.run(["drain", "s2", "--config", str(control)]) == 0
        wait_until(lambda: "s2" not in fleet.current(), "drained")
        wait_until(fleet.calm, "settled")
        assert pool_of(plan)["buckets"] == moved(before, fleet) == 64
        assert pool_of(plan)["has"] == fleet.current()
        assert pool_of(plan)["tables"] == table(fleet).generation - before.generation
        plan = planned(control, capsys, "undrain", "s2")
        before = table(fleet)
        assert cli.run(["undrain", "s2", "--config", str(control)]) == 0
        wait_until(lambda: fleet.states()["s2"] == "active", "back")
        wait_until(lambda: fleet.current() == pool_of(plan)["has"], "its share")
        wait_until(fleet.calm, "settled")
        assert pool_of(plan)["buckets"] == moved(before, fleet) == 64
        assert plan["plan"]["stages"][0]["bound"] == "slow start"


def test_forced_hops_are_foreseen_where_chains_are_full(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4, pool=[DEEP])
    with fleet.store.lead("test"):
        fleet.store.request_drain("s1", requested=True)
        wait_until(lambda: "s1" not in fleet.current(), "drained, now hop of its old buckets")
        wait_until(fleet.calm, "settled")
        plan = planned(control, capsys, "drain", "s2")
        assert pool_of(plan)["forced"] > 0
        assert "later hops that may hold connections" in plan["reasons"][0]
        assert pool_of(plan)["lost"] == [
            {
                "server": "s1",
                "cause": "forced out",
                "hops": pool_of(plan)["forced"],
                "connections": None,
            }
        ]
        assert plan["lost"] is None
        before = table(fleet)
        fleet.store.request_drain("s2", requested=True, request=DrainRequest(force=True))
        wait_until(lambda: "s2" not in fleet.current(), "by force")
        wait_until(fleet.calm, "settled")
        assert fleet.metric("hops_forced_total", pool="web") == pool_of(plan)["forced"]
        assert moved(before, fleet) == pool_of(plan)["buckets"]
        assert fleet.current() == pool_of(plan)["has"]


def test_a_server_that_dies_does_what_its_plan_shows(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    with fleet.store.lead("test"):
        plan = planned(control, capsys, "down", "s3")
    fleet.agents["s3"].end(stopped=True)
    wait_until(lambda: fleet.states()["s3"] == "down", "down")
    wait_until(lambda: "s3" not in fleet.current(), "its buckets go to others")
    assert fleet.current() == pool_of(plan)["has"]
    assert pool_of(plan)["lost"][0]["cause"] == "server gone"


def test_connections_and_their_age_come_from_the_servers_dumps(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "Agent", Counting)
    fleet.up(4)
    wait_until(lambda: dumped(fleet), "the store has everybody's dumps")
    with fleet.store.lead("test"):
        plan = planned(control, capsys, "reboot", "s1")
        current = table(fleet).chains[:, 0]
        index = next(s.index for s in fleet.cluster().servers if s.name == "s1")
        there = sum(int(current[bucket] == index) for bucket in BUSY)
        assert pool_of(plan)["chained"] == there
        assert pool_of(plan)["chained_part"] == there / (4 * len(BUSY))
        lost = sum(one["connections"] for one in pool_of(plan, 1)["lost"])
        assert plan["lost"] == lost == there
        known = plan["plan"]["knowledge"]
        assert (known["presence"], known["assumed"]) == (4, [])
        assert 0 <= known["presence_seconds"] < 30
        assert 0 <= known["decided_seconds"] < 30
        assert cli.run(["plan", "reboot", "s1", "--config", str(control)]) == 0
        out = capsys.readouterr().out
    assert "s1 drained: 3 generations, at least 0.1 s (rounds)" in out
    assert f"pool web: about {there:,} connections are passed on" in out
    assert "s1 away: " in out
    assert "s1 back: " in out
    assert "based on: where 4 servers have connections, at most " in out
    assert "guards: allowed" in out


def test_a_silent_servers_connections_are_assumed(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "Agent", Counting)
    fleet.up(4)
    wait_until(lambda: dumped(fleet), "the store has everybody's dumps")
    fleet.agents["s1"].reports = False
    fleet.go_on(0.7)
    with fleet.store.lead("test"):
        found = planned(control, capsys, "down", "s1")
    assert found["plan"]["knowledge"]["assumed"] == ["s1"]
    assert found["lost"] is None


def refused(control: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.run(["plan", *words, "--config", str(control)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return code, error


def test_what_cannot_be_planned_is_refused_with_one_line(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    code, error = refused(control, capsys, "drain", "s2")
    assert (code, "start lbctl control" in error) == (5, True)
    with fleet.store.lead("test"):
        code, error = refused(control, capsys, "drain", "s22")
        assert (code, "no server is called 's22'; did you mean 's2'?" in error) == (2, True)
        code, error = refused(control, capsys, "undrain", "s2")
        assert (code, "no drain of s2 is requested" in error) == (3, True)
        fleet.store.request_drain("s2", requested=True, request=DrainRequest("ann", 1.0, "disk"))
        wait_until(lambda: fleet.states()["s2"] == "draining", "drains")
        code, error = refused(control, capsys, "drain", "s2")
        assert code == 3
        assert "s2 is drained already, requested by ann" in error
        assert "lbctl undrain s2 ends it" in error
        fleet.agents["s3"].end(stopped=True)
        wait_until(lambda: fleet.states()["s3"] == "down", "down")
        for kind in ("drain", "down", "reboot"):
            code, error = refused(control, capsys, kind, "s3")
            assert (code, "s3 is down, so" in error) == (3, True)
    assert set(fleet.store.drain_requests()) == {"s2"}


class Terminal:
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def old_hops(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Chains are full of hops whose drain time is over: no guard protects them."""
    pool = {**DEEP, "drain_time_seconds": 0.1, "forget_after_seconds": 900}
    fleet.up(4, pool=[pool])
    fleet.store.request_drain("s1", requested=True)
    wait_until(lambda: "s1" not in fleet.current(), "drained, now hop of its old buckets")
    wait_until(fleet.calm, "settled")
    moved_at = fleet.facts().last_moved_at

    def stored() -> float:
        version = fleet.store.latest(CONTROLLER)
        return decode_controller(version.data).fleet_seconds if version else 0.0

    wait_until(lambda: stored() > moved_at + 1, "old by the stored fleet time, too", 20.0)
    capsys.readouterr()


@pytest.mark.parametrize("agrees", [False, True])
def test_on_a_terminal_a_drain_that_loses_connections_asks(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    agrees: bool,
) -> None:
    control.write_text(control.read_text() + "drain_time_seconds = 0.1\n")
    old_hops(fleet, capsys)
    asked = []

    def confirm(text: str, *, err: bool) -> bool:
        assert err, "--json owns standard output"
        asked.append(text)
        return agrees

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.confirm", confirm)
    with fleet.store.lead("test"):
        assert cli.run(["drain", "s2", "--config", str(control)]) == (0 if agrees else 3)
    captured = capsys.readouterr()
    assert "LOST: what s1 has in " in captured.out
    assert asked == ["an unknown number of connections would be lost: go on?"]
    assert ("s2 stays as it is, as you declined" in captured.err) == (not agrees)
    assert set(fleet.store.drain_requests()) == ({"s1", "s2"} if agrees else {"s1"})


@pytest.mark.parametrize("words", [["--yes"], []], ids=["yes", "no terminal"])
def test_scripts_and_those_who_said_yes_are_not_asked(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    control.write_text(control.read_text() + "drain_time_seconds = 0.1\n")
    old_hops(fleet, capsys)
    if words:
        monkeypatch.setattr("sys.stdin", Terminal())
    with fleet.store.lead("test"):
        assert cli.run(["drain", "s2", *words, "--config", str(control)]) == 0
    assert "would be lost" not in capsys.readouterr().err


def test_the_end_of_a_drain_prints_its_plan(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" not in fleet.current(), "drained")
    wait_until(fleet.calm, "settled")
    with fleet.store.lead("test"):
        assert cli.run(["undrain", "s2", "--config", str(control)]) == 0
    out = capsys.readouterr().out
    assert "s2 back: 3 generations, at least 0.3 s (slow start)" in out
    assert "pool web: 64 buckets move, 0 later hops forced out" in out
    assert "drain of s2 cancelled: it joins again" in out


def test_the_history_has_what_happened_beside_what_was_foreseen(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also over a controller that ends in between, and with a request that others cancel."""
    monkeypatch.setattr("controlplane.publish.history.STRAY_SECONDS", 0.2)
    config = fleet.up(4)

    def events() -> list[Event]:
        return [event for event in fleet.store.history() if event.kind is not EventKind.JOIN]

    with fleet.store.lead("test"):
        words = ["--reason", "new disk", "--config", str(control)]
        assert cli.run(["drain", "s2", *words]) == 0
    wait_until(lambda: "s2" not in fleet.current(), "drained")
    wait_until(lambda: bool(events()) and events()[-1].over, "the event is over")
    (event,) = events()
    assert event.foreseen
    assert (event.server, event.kind, event.reason) == ("s2", EventKind.DRAIN, "new disk")
    assert event.foreseen.buckets == event.happened.buckets == 64
    assert event.foreseen.lost == event.happened.lost == 0
    assert (event.happened.forced, event.happened.strays) == (0, 0)
    assert event.happened.seconds < 20
    fleet.stop_control()
    fleet.control(config)
    with fleet.store.lead("test"):
        assert cli.run(["undrain", "s2", "--config", str(control)]) == 0
    wait_until(lambda: len(events()) == 2 and events()[-1].over, "its end is over, too")
    end = events()[-1]
    assert end.kind is EventKind.UNDRAIN
    assert end.foreseen
    assert end.foreseen.buckets == end.happened.buckets == 64
    assert end.happened.seconds >= end.foreseen.seconds
    capsys.readouterr()
    assert cli.run(["history", "s2", "--config", str(control)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "foreseen" in line]
    assert any(": new disk; foreseen: 64 buckets, 0 hops forced, 0 lost" in one for one in lines)
    assert lines[-1].count("64 buckets, 0 hops forced, 0 lost") == 2
    assert cli.run(["history", "s9", "--config", str(control)]) == 0
    assert "nothing has happened" in capsys.readouterr().out


def test_what_was_foreseen_of_a_request_that_is_held_back_is_forgotten(
    fleet: Fleet, control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.up(4)

    def held_back(*_: Any, **__: Any) -> tuple[str, ...]:
        return ("pool web would have 1 of 3 servers active",)

    monkeypatch.setattr("lb.cli.drain.await_verdict", held_back)
    fleet.stop_control()
    with fleet.store.lead("test"):
        assert cli.run(["drain", "s3", "--config", str(control)]) == 3
    assert fleet.store.take_foreseen("s3") is None
