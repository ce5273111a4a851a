"""When a server that others do not reach withdraws, leaves, and comes back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address

from controlplane.decide.cut_off import (
    BACK_SECONDS,
    CONFIRM_SECONDS,
    LEAVE_SECONDS,
    RECENT_SECONDS,
    ROTATION_SECONDS,
    CutOff,
    doubted,
    follow,
)
from controlplane.decide.groups import Groups
from controlplane.domain.objects import PathReport, Report, Server, ServerState

NAMES = ("s1", "s2", "s3", "s4")
REGISTERED, ACTIVE, DOWN = ServerState.REGISTERED, ServerState.ACTIVE, ServerState.DOWN
OTHERS = frozenset({"s1", "s2", "s4"})
LOST = Groups({"s3": OTHERS}, losses={"s3": OTHERS, **{name: frozenset({"s3"}) for name in OTHERS}})
WELL = Groups()


class Judge:
    """Four servers of which the third is judged."""

    def __init__(self) -> None:
        self.cut_off = CutOff()
        self.state = ACTIVE

    def look(
        self,
        now: float,
        groups: Groups,
        *,
        alive: Collection[str] = NAMES,
        doubts: Collection[str] = (),
    ) -> CutOff:
        servers = [
            Server(name, IPv4Address(n), n, self.state if name == "s3" else ACTIVE)
            for n, name in enumerate(NAMES, 1)
        ]
        self.cut_off = follow(self.cut_off, groups, servers, alive, doubts, now)
        return self.cut_off


def cut(judge: Judge, now: float = 100.0) -> None:
    judge.look(now - CONFIRM_SECONDS, LOST)
    judge.look(now, LOST)
    judge.state = REGISTERED
    judge.look(now, LOST)


def test_it_is_cut_off_after_a_second_not_at_once() -> None:
    judge = Judge()
    assert judge.look(100.0, LOST).names == frozenset()
    assert judge.look(100.9, LOST).names == frozenset()
    assert judge.look(100.0 + CONFIRM_SECONDS, LOST).names == {"s3"}


def test_where_more_may_be_discovered_a_whole_rotation_of_probes_passes_first() -> None:
    judge = Judge()
    unsure = replace(LOST, unsure=frozenset({"s3"}))
    wait = CONFIRM_SECONDS + ROTATION_SECONDS * len(NAMES)
    judge.look(100.0, replace(unsure, outside={"s2": OTHERS, "s3": OTHERS}))
    judge.look(101.0, unsure)
    assert judge.look(101.0 + wait - 0.1, unsure).names == frozenset()
    assert judge.look(101.0 + wait + 0.1, unsure).names == {"s3"}


def test_a_moment_of_reach_begins_the_second_anew() -> None:
    judge = Judge()
    judge.look(100.0, LOST)
    judge.look(100.5, WELL)
    judge.look(100.8, LOST)
    assert judge.look(101.5, LOST).names == frozenset()
    assert judge.look(101.8, LOST).names == {"s3"}


def test_it_leaves_the_tables_two_seconds_after_it_withdrew() -> None:
    judge = Judge()
    judge.look(100.0, LOST)
    judge.look(101.0, LOST)
    assert judge.cut_off.leaving(200.0) == frozenset(), "not withdrawn yet"
    judge.state = REGISTERED
    judge.look(105.0, LOST)
    assert judge.cut_off.leaving(105.0 + LEAVE_SECONDS - 0.1) == frozenset()
    assert judge.cut_off.leaving(105.0 + LEAVE_SECONDS) == {"s3"}


def test_it_leaves_even_if_it_is_reached_again_meanwhile() -> None:
    judge = Judge()
    cut(judge)
    judge.look(101.0, WELL)
    assert judge.look(102.0, WELL).leaving(102.0) == {"s3"}


def test_it_is_back_after_30_s_of_reach() -> None:
    judge = Judge()
    cut(judge)
    judge.state = DOWN
    judge.look(110.0, WELL)
    assert judge.look(110.0 + BACK_SECONDS - 0.1, WELL).names == {"s3"}
    assert judge.look(110.0 + BACK_SECONDS, WELL).names == frozenset()


def test_a_loss_meanwhile_begins_the_30_s_anew() -> None:
    judge = Judge()
    cut(judge)
    judge.state = DOWN
    judge.look(110.0, WELL)
    judge.look(120.0, LOST)
    judge.look(121.0, WELL)
    assert judge.look(121.0 + BACK_SECONDS - 0.1, WELL).names == {"s3"}
    assert judge.look(121.0 + BACK_SECONDS, WELL).names == frozenset()


def test_doubt_is_not_reach() -> None:
    """Agents that were restarted never reached it: that is no evidence for it."""
    judge = Judge()
    cut(judge)
    judge.state = DOWN
    for later in range(0, 120, 10):
        judge.look(110.0 + later, WELL, doubts={"s3"})
    assert judge.cut_off.names == {"s3"}


def test_silence_is_not_reach() -> None:
    judge = Judge()
    cut(judge)
    judge.state = DOWN
    for later in range(0, 120, 10):
        judge.look(110.0 + later, WELL, alive=OTHERS)
    assert judge.cut_off.names == {"s3"}


def test_a_split_frees_nobody_that_is_lost() -> None:
    judge = Judge()
    cut(judge)
    split = replace(LOST, outside={}, split=True)
    for later in range(0, 120, 10):
        judge.look(110.0 + later, split)
    assert judge.cut_off.names == {"s3"}


def test_it_counts_among_those_in_use_for_a_while() -> None:
    judge = Judge()
    cut(judge)
    assert judge.cut_off.recent(100.0 + RECENT_SECONDS - 0.1) == {"s3"}
    assert judge.cut_off.recent(100.0 + RECENT_SECONDS) == frozenset()


def test_a_newcomer_waits_and_is_not_held_for_30_s() -> None:
    judge = Judge()
    judge.state = REGISTERED
    assert judge.look(100.0, LOST).names == {"s3"}
    assert judge.cut_off.leaving(200.0) == frozenset()
    assert judge.look(101.0, WELL).names == frozenset()


def test_who_left_the_cluster_is_forgotten() -> None:
    judge = Judge()
    cut(judge)
    servers = [Server("s1", IPv4Address(1), 1, ACTIVE)]
    assert follow(judge.cut_off, WELL, servers, ["s1"], (), 101.0).names == frozenset()


def test_two_agents_that_never_reached_it_are_a_doubt() -> None:
    reports = {
        name: Report(name, "boot", 1, 0.0, paths=PathReport(3, (), unknown))
        for name, unknown in (("s1", ("s3",)), ("s2", ("s3", "s4")), ("s4", ()))
    }
    assert doubted(reports, ["s1", "s2", "s4"]) == {"s3"}
    assert doubted(reports, ["s2", "s4"]) == frozenset(), "only fresh reports"
