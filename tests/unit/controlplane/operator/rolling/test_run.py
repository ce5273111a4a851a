"""A rolling run on a virtual clock: its order, what it waits for, and what stops it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import ServerState
from controlplane.operator.rolling.facts import Limits, Phase, Sign, Turn
from controlplane.operator.rolling.run import CommandEnd, Guard
from controlplane.operator.rolling.watch import LEADER_SECONDS, NO_LEADER, SIGN_SECONDS
from controlplane.operator.rolling.words import summary
from tests.unit.controlplane.operator.rolling.fake_world import (
    COMMAND_SECONDS,
    NOTICE_SECONDS,
    Case,
    case,
)


def test_one_server_after_the_other_and_each_is_back_before_the_next(tmp_path: Path) -> None:
    made = case(tmp_path, 3)
    outcome = made.go()
    assert (outcome.reason, outcome.exit_code) == ("", 0)
    assert [(what, name) for what, name, _ in made.world.acts] == [
        (what, f"s{n}") for n in (1, 2, 3) for what in ("drain", "command", "undrain")
    ]
    assert made.world.open_at_once == 1
    assert made.names("done") == ["s1", "s2", "s3"]
    assert made.events()[-1]["event"] == "end"


def test_each_act_is_in_the_journal_before_it_is_done(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.go()
    assert [(what, last) for what, _, last in made.world.acts[:3]] == [
        ("drain", "drain s1"),
        ("command", "command s1"),
        ("undrain", "undrain s1"),
    ]


def test_two_at_once_are_two_and_never_more(tmp_path: Path) -> None:
    made = case(tmp_path, 5, at_once=2)
    assert made.go().reason == ""
    assert made.world.open_at_once == 2


def test_a_command_that_fails_stops_it_and_the_next_server_is_not_touched(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.servers["s1"].code = 3
    outcome = made.go()
    assert outcome.exit_code == ExitCode.FAILED
    assert outcome.reason == "s1: the command failed with exit code 3"
    assert [act[:2] for act in made.world.acts] == [("drain", "s1"), ("command", "s1")]
    assert made.events()[-1]["event"] == "stopped"
    assert outcome.open_turns[0].code == 3


def test_a_command_that_was_ended_is_reported_so(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.servers["s1"].code = CommandEnd.TIMEOUT
    assert "did not end in time" in made.go().reason


def test_what_was_reported_before_the_command_ended_does_not_count(tmp_path: Path) -> None:
    """The agent ends with the command, and its last report shows a server that is well."""
    made = case(tmp_path, limits=Limits(ready_seconds=60))

    def silent(name: str) -> None:
        made.world.servers[name].quiet_since = made.world.now

    made.world.on_end = silent
    outcome = made.go()
    assert outcome.exit_code == ExitCode.TIMEOUT
    assert "no new report" in outcome.reason
    assert made.names("undrain") == []


def test_one_report_may_have_been_on_its_way_so_two_are_needed(tmp_path: Path) -> None:
    made = case(tmp_path, limits=Limits(ready_seconds=60))

    def one_more(name: str) -> None:
        made.world.servers[name].quiet_since = made.world.now + 0.25

    made.world.on_end = one_more
    outcome = made.go()
    assert "no new report" in outcome.reason
    assert made.names("undrain") == []


def test_a_new_run_of_the_agent_is_waited_for_if_the_command_restarts_it(tmp_path: Path) -> None:
    """`reboot` returns at once, and the agent of before reports for some seconds more."""
    made = case(tmp_path, 1, limits=Limits(restarts_agent=True))
    ended: list[float] = []
    made.world.on_end = lambda _: ended.append(made.world.now)

    def reboots() -> None:
        if ended and made.world.now > ended[0] + 40:
            made.world.servers["s1"].run = "next boot"

    made.world.on_wait = reboots
    assert made.go().reason == ""
    undrained = next(e for e in made.events() if e["event"] == "undrain")
    assert undrained["server"] == "s1"
    assert made.world.now > ended[0] + 40


def test_checks_have_to_pass_for_as_long_as_a_failure_may_go_unnoticed(tmp_path: Path) -> None:
    made = case(tmp_path, 1)
    times: dict[str, float] = {}
    made.run.on_event = lambda event: times.update({event["event"]: made.world.now})
    assert made.go().reason == ""
    assert times["undrain"] - times["command_ended"] >= NOTICE_SECONDS


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ({"unhealthy": ("http (refused)",)}, "its check fails: http (refused)"),
        ({"unchecked": ("http",)}, "not checked yet: http"),
        ({"ready": False}, "it is not ready"),
        ({"silent": True}, "no new report"),
        ({"stopped": True}, "its agent has stopped"),
        ({"lost_by": ("s2",)}, "packets to it are lost from s2"),
        ({"probe": "192.0.2.1:80 refuses connections"}, "tunnel: 192.0.2.1:80 refuses"),
        ({"probe": None}, "tunnel: no answer yet"),
    ],
)
def test_a_server_that_is_not_well_after_its_command_stays_drained(
    tmp_path: Path, spoil: dict[str, object], text: str
) -> None:
    made = case(tmp_path, limits=Limits(ready_seconds=60))
    made.world.on_end = lambda name: vars(made.world.servers[name]).update(spoil)
    outcome = made.go()
    assert text in outcome.reason
    assert outcome.exit_code == ExitCode.TIMEOUT
    assert made.names("undrain") == []
    assert [act[:2] for act in made.world.acts] == [("drain", "s1"), ("command", "s1")]


def test_a_server_that_left_the_cluster_is_judged_after_its_drain_is_cancelled(
    tmp_path: Path,
) -> None:
    made = case(tmp_path, 1, limits=Limits(ready_seconds=60, share_seconds=60))

    def down_and_up(name: str) -> None:
        one = made.world.servers[name]
        one.state, one.ready = ServerState.REGISTERED, False

    made.world.on_end = down_and_up
    outcome = made.go()
    assert made.names("undrain") == ["s1"]
    assert "it is not ready" in outcome.reason  # it never gets ready here
    assert made.names("done") == []


def test_a_server_that_is_cut_off_after_its_command_stays_drained(tmp_path: Path) -> None:
    """The controller takes it out, so it is registered; nothing reaches it through the tunnel."""
    made = case(tmp_path, 1, limits=Limits(ready_seconds=60, share_seconds=60))

    def cut_off(name: str) -> None:
        one = made.world.servers[name]
        one.state, one.lost_by = ServerState.REGISTERED, ("s2", "s3")

    made.world.on_end = cut_off
    outcome = made.go()
    assert "packets to it are lost from s2, s3" in outcome.reason
    assert made.names("undrain") == []


def test_the_next_one_waits_for_the_share_and_for_settled_documents(tmp_path: Path) -> None:
    made = case(tmp_path, limits=Limits(share_seconds=90))
    made.world.servers["s1"].lacking = ("pool web lacks 60 buckets: slow start",)
    outcome = made.go()
    assert "share not complete after 90 s: pool web lacks 60 buckets: slow start" in outcome.reason
    assert made.names("drain") == ["s1"]

    other = case(tmp_path / "other", limits=Limits(share_seconds=90))
    other.world.waiting = ("table/web generation 7 waits for s2",)
    assert "table/web generation 7 waits for s2" in other.go().reason


def test_connections_that_are_left_at_the_limit_are_counted_not_hidden(tmp_path: Path) -> None:
    made = case(tmp_path, 1, limits=Limits(connections_seconds=30))
    made.world.servers["s1"].left = 4
    outcome = made.go()
    assert outcome.reason == ""
    assert outcome.turns[0].left == 4
    assert next(e for e in made.events() if e["event"] == "command")["connections"] == 4
    assert made.world.now - 1000 >= 30


def test_at_the_limit_new_connections_that_can_still_come_stop_it(tmp_path: Path) -> None:
    made = case(tmp_path, 1, limits=Limits(connections_seconds=1))
    outcome = made.go()
    assert outcome.exit_code == ExitCode.TIMEOUT
    assert "s1: drain not complete after 1 s: has 7 buckets" in outcome.reason
    assert made.names("command") == []


def worse(case: Case, change: Callable[[], None], after: float = 3.0) -> None:
    """Change something once, so long after the run began."""
    begun = case.world.now
    done: list[int] = []

    def now() -> None:
        if not done and case.world.now >= begun + after:
            done.append(1)
            change()

    case.world.on_wait = now


def test_a_stray_connection_stops_it(tmp_path: Path) -> None:
    made = case(tmp_path, 3)
    made.world.strays = {"s1": 0, "s2": 1, "s3": 0}
    worse(made, lambda: made.world.strays.update(s2=3), after=20)
    outcome = made.go()
    assert outcome.reason == "connections broke: no table leads to 2 on s2"
    assert outcome.broken == 2


def test_a_proved_connection_stops_it(tmp_path: Path) -> None:
    made = case(tmp_path, 3)
    made.world.strays = {"s1": 0, "s2": 0, "s3": 0}
    made.world.proved = {"s1": 5, "s2": 0, "s3": 0}
    worse(made, lambda: made.world.proved.update(s1=6), after=20)
    outcome = made.go()
    assert outcome.reason == "connections broke: other servers answered 1 of s1 with a reset"
    assert outcome.broken == 1


def test_a_new_controller_counts_proved_connections_from_zero(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.proved = {"s1": 5, "s2": 0}
    worse(made, lambda: made.world.proved.update(s1=0))
    assert made.go().reason == ""


def test_strays_of_a_server_that_has_mentioned_none_yet_count(tmp_path: Path) -> None:
    made = case(tmp_path)
    worse(made, lambda: made.world.strays.update(s2=1))
    assert made.go().reason == "connections broke: no table leads to 1 on s2"


def test_a_hop_that_is_pushed_out_stops_it(tmp_path: Path) -> None:
    made = case(tmp_path)
    worse(made, lambda: made.world.forced.update(web=5))
    assert "pushed out: 5 of pool web" in made.go().reason


def test_broken_is_zero_only_if_every_server_counted(tmp_path: Path) -> None:
    made = case(tmp_path / "some")
    made.world.strays = {"s1": 0}
    assert made.go().broken is None
    every = case(tmp_path / "every")
    every.world.strays = {"s1": 0, "s2": 0}
    outcome = every.go()
    assert outcome.broken == 0
    assert summary(outcome, 2460) == "2 servers, 0 broken, 41 min"
    assert summary(outcome, 60, resumed=True) == "2 servers, 0 broken since it was resumed, 60 s"
    outcome.broken, outcome.turns[0].left = None, 3
    assert summary(outcome, 60) == (
        "2 servers, broken connections not measured, 60 s; 3 connections were still open when "
        "their server's command began"
    )


def test_new_trouble_of_another_server_stops_it_and_that_of_its_own_does_not(
    tmp_path: Path,
) -> None:
    made = case(tmp_path, 2)
    sign = Sign("s2", "TROUBLE: sysctls: rp_filter is 1, not 0")
    worse(made, lambda: made.world.signs.add(sign))
    assert made.go().reason == "s2: TROUBLE: sysctls: rp_filter is 1, not 0"
    own = case(tmp_path / "own", 1)
    worse(own, lambda: own.world.signs.add(Sign("s1", "its agent is silent")))
    assert own.go().reason == ""
    about = case(tmp_path / "about", 1)
    text = "TROUBLE: encapsulated packets to s1 are lost"
    worse(about, lambda: about.world.signs.add(Sign("s9", text)))
    assert about.go().reason == ""


def test_what_was_wrong_before_and_what_lasts_a_moment_stop_nothing(tmp_path: Path) -> None:
    made = case(tmp_path, 2)
    made.world.signs.add(Sign("s9", "TROUBLE: no contact for 12 s"))
    begun = made.world.now

    def changes() -> None:
        made.world.signs = {Sign("s9", f"TROUBLE: no contact for {made.world.now:.0f} s")}
        if begun + 3 < made.world.now < begun + 3 + SIGN_SECONDS - 1:
            made.world.signs.add(Sign("s8", "its agent is silent"))

    made.world.on_wait = changes
    assert made.go().reason == ""


def test_a_fleet_without_a_controller_stops_it_later_than_a_restart_of_one(
    tmp_path: Path,
) -> None:
    made = case(tmp_path, 4)
    worse(made, lambda: made.world.signs.add(Sign("", NO_LEADER)))
    assert made.go().reason == NO_LEADER
    assert made.world.now - 1003 >= LEADER_SECONDS


def test_a_server_that_dies_while_it_drains_or_joins_stops_it(tmp_path: Path) -> None:
    made = case(tmp_path)
    worse(made, lambda: vars(made.world.servers["s1"]).update(state=ServerState.DOWN), after=1)
    assert made.go().reason == "s1 is lost before its command began: it is down"
    other = case(tmp_path / "joins")
    other.world.servers["s1"].lacking = ("pool web lacks 9 buckets: moving",)
    worse(other, lambda: vars(other.world.servers["s1"]).update(stopped=True), after=20)
    assert other.go().reason == "s1 is lost: its agent has stopped"


def test_a_check_that_fails_again_once_the_server_serves_stops_it_at_once(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.servers["s1"].lacking = ("pool web lacks 9 buckets: moving",)
    worse(made, lambda: vars(made.world.servers["s1"]).update(unhealthy=("http",)), after=20)
    outcome = made.go()
    assert outcome.reason == "s1: its check fails: http"
    assert made.world.now < 1022


def test_guards_capacity_stops_it_and_full_chains_are_waited_for(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.refusals["s1"] = Guard(("pool web would have 1 of 4 servers active",))
    outcome = made.go()
    assert outcome.exit_code == ExitCode.REFUSED
    assert outcome.reason == "s1 is not drained: pool web would have 1 of 4 servers active"
    assert made.world.acts == []
    full = case(tmp_path / "full", 1)
    full.world.refusals["s1"] = Guard((), ("its chains are full for 40 s more",))
    worse(full, full.world.refusals.clear, after=40)
    assert full.go().reason == ""


def test_a_drain_that_the_controller_holds_back_is_cancelled(tmp_path: Path) -> None:
    made = case(tmp_path)
    made.world.servers["s1"].held = ("pool web would lose 5 later hops",)
    outcome = made.go()
    assert outcome.exit_code == ExitCode.REFUSED
    assert outcome.reason == "s1 is not drained: pool web would lose 5 later hops"
    assert made.world.servers["s1"].request is None
    assert made.names("command") == []


@pytest.mark.parametrize("other", [None, DrainRequest("bob@ctl", 7.0, "new disk")])
def test_a_drain_that_somebody_else_took_over_is_left_to_them(
    tmp_path: Path, other: DrainRequest | None
) -> None:
    made = case(tmp_path)
    worse(made, lambda: vars(made.world.servers["s1"]).update(request=other), after=6)
    outcome = made.go()
    assert ("bob@ctl" if other else "somebody cancelled") in outcome.reason
    assert made.world.servers["s1"].request == other
    assert made.names("undrain") == []


def test_an_interrupt_ends_it_after_the_command_and_the_journal_has_its_end(
    tmp_path: Path,
) -> None:
    made = case(tmp_path)
    made.world.on_start = lambda _: setattr(made.run, "interrupted", True)
    outcome = made.go()
    assert (outcome.reason, outcome.exit_code) == ("interrupted", ExitCode.INTERRUPTED)
    assert [e["event"] for e in made.events()] == [
        "begin", "drain", "command", "command_ended", "stopped",
    ]  # fmt: skip
    assert made.world.now - 1000 >= COMMAND_SECONDS
    assert outcome.open_turns[0].phase is Phase.RETURNING


def test_if_one_of_two_fails_the_other_ones_command_is_waited_for(tmp_path: Path) -> None:
    made = case(tmp_path, 2, at_once=2)
    made.world.servers["s1"].code = 1
    made.world.on_start = lambda name: (
        vars(made.world.servers["s2"]).update(ends_at=made.world.now + 30) if name == "s2" else None
    )
    outcome = made.go()
    assert "s1: the command failed" in outcome.reason
    assert made.names("command_ended") == ["s1", "s2"]
    assert made.names("undrain") == []


def test_a_journal_that_cannot_be_written_stops_it_before_the_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case(tmp_path)
    write = made.journal.write

    def full(event: str, **values: object) -> dict[str, object]:
        if event in ("command", "stopped"):
            raise BrigadeError("the disk is full")
        return write(event, **values)

    monkeypatch.setattr(made.journal, "write", full)
    outcome = made.go()
    assert outcome.reason == "the disk is full"
    assert [turn.phase for turn in outcome.open_turns] == [Phase.DRAINING]
    assert [act[:2] for act in made.world.acts] == [("drain", "s1")]


def test_turns_that_are_done_stay_done(tmp_path: Path) -> None:
    turns = [Turn("s1", "10.0.0.1", Phase.DONE), Turn("s2", "10.0.0.2")]
    made = case(tmp_path, 2, turns=turns)
    assert made.go().reason == ""
    assert {name for _, name, _ in made.world.acts} == {"s2"}
