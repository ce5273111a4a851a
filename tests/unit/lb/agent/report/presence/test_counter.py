"""The thread that takes dumps: how often, what it throws away, what is in the facts after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest

from controlplane.documents.presence import Mark, decode_presence, key_id_of
from controlplane.domain.objects import (
    TCP,
    AskedFlow,
    FlowName,
    Pool,
    Server,
    ServerState,
    Service,
    Table,
)
from lb.agent.facts import SharedFacts
from lb.agent.report.presence.cookies import CookieAge
from lb.agent.report.presence.counter import (
    LOOK_SECONDS,
    ORPHAN_SECONDS,
    QUICK,
    QUICK_ANSWERS,
    QUICK_DUMPS,
    STEADY,
    ConnectionCounter,
)
from lb.agent.report.presence.dump import Found, Strays
from lb.agent.report.presence.sorting import Sorter
from lb.led_here import Steering, pool_here

VIP = IPv4Network("192.0.2.10")
OWN = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
KEY = bytes(range(16))
BUCKETS = 256


def steering(generation: int = 1, chain: Sequence[int] = (1, 2)) -> Steering:
    table = Table(
        "web", 1, 1, np.tile(np.array(chain, np.uint16), (BUCKETS, 1)), np.zeros(BUCKETS, np.uint32)
    )
    here = pool_here(table, Pool("web", BUCKETS, 2), KEY, OWN, 0.0)
    return Steering(generation, (Service("web", VIP, TCP, 80, "web"),), {"web": here}, OWN.dip)


def cookie_of(flow: FlowName) -> int:
    return flow.hash >> 24


def nothing() -> None:
    """Happen during a dump."""


class Rig:
    """A counter with a clock, CPU time and sockets of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.cpu, self.cost = 1000.0, 0.0, 0.0
        self.failure: OSError | None = None
        self.during: Callable[[], None] = nothing
        self.strays: Sequence[int] = ()
        self.flows: Sequence[FlowName] = ()
        self.open: Sequence[FlowName] = ()
        self.begun: list[float] = []
        self.facts = SharedFacts(0.0)
        self.facts.update(steering=steering())
        monkeypatch.setattr(time, "thread_time", lambda: self.cpu)
        self.counter = ConnectionCounter(self.facts, self.take, lambda: self.now)

    def take(self, sorter: Sorter, begun: float, asked: frozenset[AskedFlow]) -> Found:
        self.begun.append(begun)
        self.cpu += self.cost
        self.now += self.cost
        self.during()
        if self.failure:
            raise self.failure
        occupied = np.zeros(sorter.total, np.bool_)
        occupied[[3, 5]] = True
        count = len(self.strays)
        found = Strays(
            np.array(self.strays, np.uint64), np.zeros(count, np.int32), np.full(count, 9, np.int64)
        )
        held = {flow: cookie_of(flow) for flow in self.flows if flow.asked in asked}
        cookies = np.array([cookie_of(flow) for flow in self.open], np.uint64)
        return Found(begun, occupied, np.array([4]), 3, found, held, cookies)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += self.counter.step()

    def numbers(self) -> int:
        presence = self.facts.current.presence
        return presence.dump.number if presence else 0


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_dump_is_in_the_facts(rig: Rig) -> None:
    rig.facts.update(mark=Mark(1, 7))
    rig.cost = 0.004
    rig.counter.step()
    facts = rig.facts.current
    assert (facts.connections, facts.dump_seconds) == (3, 0.004)
    assert facts.presence is not None
    dump = facts.presence.dump
    assert (dump.number, dump.mark, dump.cluster_generation) == (1, Mark(1, 7), 1)
    web = dump.pools["web"]
    assert (web.key_id, web.buckets, web.connections) == (key_id_of(KEY), BUCKETS, 4)
    assert np.flatnonzero(web.occupied).tolist() == [3, 5]
    sent = decode_presence(facts.presence.body)
    assert (sent.number, sent.pools["web"].connections) == (1, 4)
    assert KEY.hex() not in str(facts.presence.body)


def held(rig: Rig) -> list[FlowName]:
    return list(rig.facts.current.held)


def test_what_is_asked_for_is_looked_for_soon_and_answered_as_long(rig: Rig) -> None:
    rig.cost = 0.1  # so that dumps are 9.9 s apart, and quick ones 3.3 s
    mine, other = FlowName("web", 7 << 24 | 1), FlowName("web", 8 << 24 | 1)
    rig.open = [mine, other]
    rig.run(60.0)
    rig.flows = [mine]
    began = rig.numbers()
    rig.facts.update(asked=frozenset({mine.asked, other.asked}))
    rig.run(QUICK.pause(rig.cost) + 2 * LOOK_SECONDS)
    assert held(rig) == [mine]
    rig.run(2 * QUICK.pause(rig.cost))
    assert rig.numbers() - began >= QUICK_ANSWERS, "one dump may miss a socket"
    rig.flows = []
    rig.run(60.0)
    assert held(rig) == [mine], "it is still asked for"
    before = rig.numbers()
    rig.facts.update(asked=frozenset({other.asked}))
    rig.run(30.0)
    assert held(rig) == []
    assert rig.numbers() - before <= 4, "what was asked for before makes no haste"
    rig.flows = [other]
    rig.run(60.0)
    assert rig.facts.current.held_total == 2


@pytest.mark.parametrize("older_seconds", [ORPHAN_SECONDS - 0.5, ORPHAN_SECONDS + 2.0])
def test_a_connection_that_may_be_newer_than_the_segment_is_no_answer(
    rig: Rig, older_seconds: float
) -> None:
    """The client has used the port of a closed connection again."""
    again = FlowName("web", 7 << 24 | 1)
    rig.run(30.0)
    rig.open = rig.flows = [again]
    rig.run(older_seconds)
    rig.facts.update(asked=frozenset({again.asked}))
    rig.run(4.0)
    assert held(rig) == ([again] if older_seconds > ORPHAN_SECONDS else [])


def test_the_age_of_cookies_is_that_of_the_dumps_beginning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 5
    read = CookieAge(lambda: f"TcpExt: SyncookiesSent\nTcpExt: {sent}\n")
    monkeypatch.setattr(rig.counter, "_cookies", read)
    rig.run(130.0)

    def send_one() -> None:
        nonlocal sent
        sent += 1
        rig.during = nothing

    rig.during = send_one
    before = rig.numbers()
    ages = []
    while rig.numbers() < before + 2:
        number = rig.numbers()
        rig.now += rig.counter.step()
        if rig.numbers() > number:
            presence = rig.facts.current.presence
            assert presence is not None
            ages.append(presence.dump.cookies_age)
    assert ages == [None, 0.0]


def test_without_documents_nothing_is_dumped(rig: Rig) -> None:
    rig.facts.update(steering=None)
    rig.run(5.0)
    assert rig.begun == []


def test_each_dump_has_the_next_number(rig: Rig) -> None:
    rig.run(30.0)
    assert rig.numbers() == len(rig.begun) > 10


@pytest.mark.parametrize("cost", [0.001, 0.02, 0.2, 0.5])
def test_dumps_take_a_hundredth_of_the_time_at_rest(rig: Rig, cost: float) -> None:
    rig.cost = cost
    rig.run(120.0)  # the quick ones
    rig.begun.clear()
    before, since = rig.cpu, rig.now
    rig.run(400.0)
    assert (rig.cpu - before) / (rig.now - since) < 0.0125
    assert len(rig.begun) > 5
    least = STEADY.pause(cost)
    gaps = [b - a for a, b in zip(rig.begun, rig.begun[1:], strict=False)]
    assert all(least <= gap - cost < least + 2 * LOOK_SECONDS for gap in gaps)


def test_dumps_of_very_many_sockets_are_not_a_minute_apart_for_ever(rig: Rig) -> None:
    rig.cost = 5.0
    rig.run(200.0)
    assert len(rig.begun) >= 3


@pytest.mark.parametrize("what", ["table", "mark"])
def test_a_new_table_or_mark_makes_the_next_dumps_quick(rig: Rig, what: str) -> None:
    rig.cost = 0.02
    rig.run(20.0)
    rig.begun.clear()
    changed = rig.now
    if what == "table":
        rig.facts.update(steering=steering())
    else:
        rig.facts.update(mark=Mark(1, 1))
    rig.run(30.0)
    quick = QUICK.pause(rig.cost) + rig.cost + LOOK_SECONDS
    assert rig.begun[0] - changed <= quick
    gaps = [b - a for a, b in zip(rig.begun, rig.begun[1:], strict=False)]
    assert all(gap <= quick for gap in gaps[: QUICK_DUMPS - 1])
    assert gaps[QUICK_DUMPS] >= STEADY.pause(rig.cost)


def test_quick_dumps_are_at_most_three_percent(rig: Rig) -> None:
    rig.cost = 0.2

    def changed() -> None:
        rig.facts.update(mark=Mark(1, len(rig.begun)))

    rig.during = changed
    since = rig.now
    rig.run(300.0)
    assert 0.025 < rig.cpu / (rig.now - since) < 0.031


def test_the_mark_is_the_one_before_the_dump(rig: Rig) -> None:
    """One that comes during a dump says nothing about the sockets that were read before."""

    def marked() -> None:
        rig.facts.update(mark=Mark(2, len(rig.begun)))

    rig.facts.update(mark=Mark(1, 1))
    rig.during = marked
    rig.counter.step()
    assert rig.facts.current.presence is not None
    assert rig.facts.current.presence.dump.mark == Mark(1, 1)


def test_a_dump_during_which_the_cluster_document_changed_is_thrown_away(rig: Rig) -> None:
    rig.during = lambda: rig.facts.update(steering=steering(generation=2))
    rig.counter.step()
    assert (rig.numbers(), rig.facts.current.connections) == (0, 0)
    rig.during = nothing
    rig.run(2.0)
    assert rig.facts.current.presence is not None
    assert rig.facts.current.presence.dump.cluster_generation == 2
    assert len(rig.begun) == rig.numbers() + 1


def test_a_new_table_during_a_dump_changes_no_bucket(rig: Rig) -> None:
    rig.during = lambda: rig.facts.update(steering=steering(chain=(2, 1)))
    rig.counter.step()
    assert rig.numbers() == 1


def test_what_cannot_be_counted_is_a_trouble_until_it_can(rig: Rig) -> None:
    rig.failure = OSError("no udp_diag")
    rig.counter.step()
    assert "modprobe" in rig.facts.current.troubles["connections"]
    rig.failure = None
    rig.run(2.0)
    assert "connections" not in rig.facts.current.troubles


def test_strays_are_in_the_facts_with_zeros_for_what_did_not_happen(rig: Rig) -> None:
    rig.facts.update(steering=steering(chain=(2, 3)))
    rig.strays = [7]
    rig.counter.step()
    assert not rig.facts.current.strays
    assert dict(rig.facts.current.strays_total)["web", "forced"] == 0, "a series of its own"
    rig.run(1.0)
    assert rig.facts.current.strays == {("web", "unknown"): 1}
    assert rig.facts.current.strays_total["web", "unknown"] == 1


def test_it_runs_in_a_thread_of_its_own(rig: Rig) -> None:
    taken = threading.Event()
    rig.during = taken.set
    rig.counter.start()
    assert taken.wait(5)
    rig.counter.stop()
    rig.counter.join(5)
    assert not rig.counter.is_alive()


def test_a_steering_with_another_cluster_generation_is_another_one() -> None:
    one = steering()
    assert replace(one, cluster_generation=2) != one
