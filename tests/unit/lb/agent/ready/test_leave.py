"""Leaving: whom `lbctl down` asks, what it waits for, and when it refuses."""

from __future__ import annotations

import itertools
import os
import uuid

import pytest

from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import ServerState
from controlplane.store.contract import StoreUnavailable
from lb.agent.facts import SharedFacts
from lb.agent.machine.lock import Holder, interface_lock
from lb.agent.ready import leave as module
from lb.agent.ready.leave import (
    LEAVE_ROLE,
    WITHDRAW_ROLE,
    LeaveWatch,
    Leaving,
    check_controller,
    wait_until_unused,
)
from tests.unit.lb.agent.fakes import FakeStore, a_cluster, a_table


@pytest.fixture
def store() -> FakeStore:
    """Server 2 is drained and an old hop of server 1's buckets."""
    found = FakeStore()
    found.put(a_cluster(1, states={2: ServerState.DRAINING}))
    found.put(a_table(1, [1, 2]))
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("REPORT_SECONDS", 0.02), ("OUTAGE_SECONDS", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(module, "PRINT_SECONDS", 0.05)


def leave(store: FakeStore, seconds: float = 5.0) -> tuple[list[str], list[int]]:
    shown: list[str] = []
    sent: list[int] = []
    wait_until_unused(store, "s2", shown.append, timeout_seconds=seconds, send=sent.append)
    return shown, sent


def test_it_waits_until_no_chain_names_it_and_the_controller_has_it_as_down(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def on_wait() -> None:
        nonlocal looks
        looks += 1
        if looks == 10:
            store.put(a_table(2, [1, 0]))
        if looks == 20:
            store.put(a_cluster(2, states={2: ServerState.DOWN}))

    store.on_wait = on_wait
    monkeypatch.setattr(module, "PRINT_SECONDS", 0.0)
    shown, sent = leave(store)
    assert looks == 20
    assert sent == list(range(1, len(sent) + 1))
    assert "the newest table of web still names this server" in shown[0]
    assert "until every server uses the tables without this one" in shown[1]


def test_down_alone_is_not_enough_while_a_table_names_it(store: FakeStore) -> None:
    store.put(a_cluster(2, states={2: ServerState.DOWN}))
    leaving = Leaving(store, "s2")
    assert not leaving.look(0.0).unused
    store.put(a_table(2, [1, 0]))
    assert leaving.look(0.0).unused


def test_a_server_that_the_cluster_does_not_have_may_go(store: FakeStore) -> None:
    assert Leaving(store, "s9").look(0.0).unused
    assert not Leaving(FakeStore(), "s2").look(0.0).unused, "an empty store knows nobody"


def test_it_takes_no_longer_than_it_may_and_names_the_remedies(store: FakeStore) -> None:
    with pytest.raises(BrigadeError, match=r"names this server.*lbctl servers.*--force") as caught:
        leave(store, 0.2)
    assert caught.value.exit_code == ExitCode.TIMEOUT


def test_a_short_outage_is_waited_for_and_a_long_one_ends_it(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = itertools.cycle([False, False, True, True])  # a standby takes the lead
    monkeypatch.setattr(store, "is_led", lambda: next(answers))
    with pytest.raises(BrigadeError, match="still waiting") as caught:
        leave(store, 0.6)
    assert caught.value.exit_code == ExitCode.TIMEOUT, "not ended by the outages"
    monkeypatch.undo()
    store.failure = StoreUnavailable("gone")
    monkeypatch.setattr(module, "OUTAGE_SECONDS", 0.2)
    with pytest.raises(BrigadeError, match=r"does not answer any more \(gone\)") as caught:
        leave(store)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_without_a_controller_it_is_refused_with_the_remedy_and_its_cost(
    store: FakeStore,
) -> None:
    check_controller(store)
    store.led = False
    with pytest.raises(BrigadeError, match=r"no controller runs.*lbctl control.*--force.*lose"):
        check_controller(store)
    with pytest.raises(BrigadeError, match="no controller runs any more"):
        leave(store)
    store.failure = StoreUnavailable("gone")
    with pytest.raises(BrigadeError, match=r"does not answer \(gone\)") as caught:
        check_controller(store)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_the_agent_sees_what_down_requests_and_that_it_has_ended() -> None:
    interface = f"t{uuid.uuid4().hex[:12]}"
    facts = SharedFacts(0.0)
    changes: list[tuple[bool, bool]] = []

    def note() -> None:
        changes.append((facts.current.leaving, facts.current.withdrawing))

    watch = LeaveWatch(interface, facts, note)
    watch.step()
    with interface_lock(interface, LEAVE_ROLE):
        watch.step()
        with interface_lock(interface, WITHDRAW_ROLE):
            watch.step()
            watch.step()
    watch.step()
    assert changes == [(True, False), (True, True), (False, False)]


def test_a_lock_of_another_user_requests_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SharedFacts(0.0)
    monkeypatch.setattr(module, "find_holder", lambda *_: Holder(1, os.geteuid() + 1))
    LeaveWatch("eth0", facts, lambda: None).step()
    assert not facts.current.leaving
