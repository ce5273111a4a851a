"""The controller holds back drains that violate a guard, whoever requests them, and says why."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import lb.cli.main as cli
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError
from controlplane.operator.overview import decisions_of
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.store import FileStore
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

FORCED = DrainRequest(force=True)


def held(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    decided = fleet.store.decisions()
    return dict(decided.held) if decided else {}


def draining(fleet: Fleet) -> set[str]:
    return {name for name, state in fleet.states().items() if state == "draining"}


def test_two_operators_at_the_same_moment_do_not_take_what_each_would_have_left(
    fleet: Fleet,
) -> None:
    fleet.up(4)
    barrier = threading.Barrier(3)

    def ask(name: str) -> None:
        store = FileStore(fleet.directory)
        barrier.wait()
        store.request_drain(name, requested=True)
        store.close()

    operators = [threading.Thread(target=ask, args=(name,)) for name in ("s1", "s2", "s3")]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    wait_until(lambda: len(draining(fleet)) == 2, "two of three go ahead")
    wait_until(lambda: len(held(fleet)) == 1, "and the third waits")
    (name,) = held(fleet)
    assert "pool web would have 1 of 4 servers active, and needs 2" in held(fleet)[name][0]
    fleet.go_on(0.5)
    assert len(draining(fleet)) == 2
    assert len(fleet.current()) == 2
    assert fleet.metric("drain_held", server=name) == 1


def test_a_held_drain_goes_ahead_when_it_may_and_at_once_by_force(fleet: Fleet) -> None:
    fleet.up(2)
    fleet.store.request_drain("s1", requested=True)
    wait_until(lambda: draining(fleet) == {"s1"}, "one of two")
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" in held(fleet), "the last one waits")
    fleet.store.request_drain("s1", requested=False)
    wait_until(lambda: draining(fleet) == {"s2"}, "s1 is back, so s2 may go")
    wait_until(lambda: held(fleet) == {}, "nothing waits")
    fleet.store.request_drain("s1", requested=True, request=FORCED)
    wait_until(lambda: draining(fleet) == {"s1", "s2"}, "by force, nobody is left")


def test_a_death_before_the_drain_is_published_is_counted(fleet: Fleet) -> None:
    """It was allowed by old numbers: one of three may go. Then another one dies."""
    fleet.up(3)
    fleet.agents["s1"].acks = False
    loop = fleet.loop
    assert loop
    loop.configure(fleet.config(3, slow_start_seconds=0.4), fleet.prober)
    service = {"vip": "192.0.2.1", "protocol": "tcp", "port": 81, "pool": "web", "name": "new"}
    loop.configure(fleet.config(3, service=[service]), fleet.prober)
    before = fleet.cluster().generation
    wait_until(lambda: fleet.cluster().generation > before, "a generation that s1 holds back")
    fleet.store.request_drain("s2", requested=True)
    fleet.go_on(0.3)
    fleet.prober.dead.add(fleet.config(3).server[2].dip)
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.states()["s3"] == "down", "a death")
    fleet.agents["s1"].acks = True
    wait_until(lambda: "s2" in held(fleet), "held back by the numbers of now")
    fleet.go_on(0.5)
    assert draining(fleet) == set()


def test_live_hops_are_not_pushed_out_without_force(fleet: Fleet) -> None:
    pool = {"name": "web", "buckets": 256, "balance": "equal", "depth": 2, "min_active": 0.25}
    fleet.up(4, pool=[pool])
    fleet.store.request_drain("s1", requested=True)
    wait_until(lambda: "s1" not in fleet.current(), "drained, now hop of its old buckets")
    wait_until(fleet.calm, "settled")
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" in held(fleet), "its new buckets have full chains")
    assert "later hops that may hold connections: its chains are full" in held(fleet)["s2"][0]
    assert fleet.metric("hops_forced_total", pool="web") == 0
    fleet.store.request_drain("s2", requested=True, request=FORCED)
    wait_until(lambda: "s2" not in fleet.current(), "by force")
    wait_until(lambda: bool(fleet.metric("hops_forced_total", pool="web")), "and counted")

    def stored() -> int | None:
        decided = fleet.store.decisions()
        return decided.pools["web"].forced if decided else None

    wait_until(
        lambda: stored() == fleet.metric("hops_forced_total", pool="web"), "also for commands"
    )


@pytest.fixture
def control(fleet: Fleet) -> Path:
    """The settings file of a fleet of four."""
    return fleet.write_settings(4)


def run(control: Path, *words: str) -> int:
    return cli.run([*words, "--config", str(control)])


def test_the_command_shows_what_a_drain_does_and_refuses_it(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.up(4)
    fleet.agents["s1"].connections = 7
    with fleet.store.lead("test"):
        assert run(control, "drain", "s1", "--dry-run") == 0
        out = capsys.readouterr().out
        assert "s1 has 7 connections" in out
        assert (
            "pool web: 64 buckets move, 3 of 4 servers stay active (2 needed), 0 later hops" in out
        )
        assert fleet.store.drain_requests() == {}
        for name in ("s1", "s2"):
            assert run(control, "drain", name) == 0
            assert f"{name} is draining" in capsys.readouterr().out
        assert run(control, "drain", "s3") == 3
        error = capsys.readouterr().err
        assert "s3 is not drained: pool web would have 1 of 4 servers active, and needs 2" in error
        assert "--force" in error
        assert set(fleet.store.drain_requests()) == {"s1", "s2"}
        assert run(control, "drain", "s3", "--force") == 0
        wait_until(lambda: draining(fleet) == {"s1", "s2", "s3"}, "by force")


def test_a_forced_drain_of_the_last_server_says_that_it_keeps_its_buckets(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `drain`, by `servers` and by `why`; until another server is there again."""
    fleet.up(2)
    with fleet.store.lead("test"):
        assert run(control, "drain", "s1", "--force") == 0
        assert "keeps" not in capsys.readouterr().out
        wait_until(lambda: fleet.current().keys() == {"s2"}, "all on s2")
        wait_until(fleet.calm, "settled")
        assert run(control, "drain", "s2", "--force") == 0
        said = "no other server of pool web can take its buckets, so it keeps them until one can"
        assert f"s2 is the last: {said}" in capsys.readouterr().out
        wait_until(lambda: draining(fleet) == {"s1", "s2"}, "by force")
        keeps = "no other server of the pool can take its buckets, so it keeps them until one can"
        wait_until(lambda: keeps in str(decisions_of(fleet.store)), "the controller says so")
        assert run(control, "servers") == 0
        shown = capsys.readouterr().out
        assert "draining (keeps its buckets)" in shown
        assert f"s2 drains: {said}" in shown
        assert "s1 drains" not in shown
        assert run(control, "why", "s2") == 0
        answer = capsys.readouterr().out
        assert "equal part" not in answer
        assert f"pool web: {keeps}; its drain is requested" in answer
        assert run(control, "drain", "s2", "--force", "--wait", "--timeout", "0.5") == 4
        assert f", {said}" in capsys.readouterr().err
        fleet.store.request_drain("s1", requested=False)
        wait_until(lambda: fleet.current().keys() == {"s1"}, "s1 takes them")
        wait_until(lambda: keeps not in str(decisions_of(fleet.store)), "and it is over")


def test_the_controllers_refusal_ends_the_command_and_the_request(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator whose own look was too early is refused by the controller."""
    fleet.up(4)
    for name in ("s1", "s2"):
        fleet.store.request_drain(name, requested=True)
    wait_until(lambda: len(draining(fleet)) == 2, "two")

    def blind(*_: Any) -> None:
        return None

    monkeypatch.setattr("controlplane.operator.drain_preview.lacks", blind)
    with fleet.store.lead("test"):
        assert run(control, "drain", "s3") == 3
        assert "s3 is not drained: pool web would have 1 of 4" in capsys.readouterr().err
        assert set(fleet.store.drain_requests()) == {"s1", "s2"}
        fleet.store.request_drain("s3", requested=True)
        wait_until(lambda: "s3" in held(fleet), "held")
        capsys.readouterr()
        assert run(control, "servers") == 0
        out = capsys.readouterr().out
        assert "active (drain held back)" in out
        assert "the drain of s3 is held back: pool web would have 1 of 4 servers active" in out
        words = ("drain", "s3", "--force", "--wait", "--timeout", "10", "--json")
        assert run(control, *words) == 0
    assert '"outcome": "drained"' in capsys.readouterr().out


@pytest.mark.parametrize("ending", [KeyboardInterrupt, BrigadeError])
@pytest.mark.parametrize("others", [None, FORCED], ids=["mine", "others"])
def test_a_command_that_ends_before_the_verdict_cancels_its_own_request_alone(
    fleet: Fleet,
    control: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: type[BaseException],
    others: DrainRequest | None,
) -> None:
    """A request that nobody waits for must not begin later; one of somebody else's goes on."""
    fleet.up(3)

    def end(store: FileStore, name: str, *_: Any, **__: Any) -> None:
        assert set(store.drain_requests()) == {name}
        if others:
            store.request_drain(name, requested=True, request=others)
        raise ending("ended")

    monkeypatch.setattr("lb.cli.drain.await_verdict", end)
    with fleet.store.lead("test"):
        assert run(control, "drain", "s3") != 0
    assert dict(fleet.store.drain_requests()) == ({"s3": others} if others else {})


def test_a_store_that_fails_while_a_drain_is_cancelled_hides_no_reason(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet.up(3)

    def held_back(*_: Any, **__: Any) -> tuple[str, ...]:
        monkeypatch.setattr(FileStore, "drain_requests", gone)
        return ("pool web would have 1 of 3 servers active",)

    def gone(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the store is gone")

    monkeypatch.setattr("lb.cli.drain.await_verdict", held_back)
    with fleet.store.lead("test"):
        code = run(control, "drain", "s3")
    fleet.stop_control()
    monkeypatch.undo()
    error = capsys.readouterr().err
    assert code == 3
    assert "s3 is not drained: pool web would have 1 of 3 servers active" in error
    assert "may still be requested: the store is gone; cancel it with `lbctl undrain s3`" in error


def test_decisions_that_cannot_be_stored_hold_nothing_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StoreUnavailable("no space left")

    monkeypatch.setattr(FileStore, "put_decisions", full)
    fleet.up(3)
    fleet.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" not in fleet.current(), "drained")
