"""The stored state of a controller: what it goes on from, when it is stored, what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.documents.controller import decode_controller, encode_controller
from controlplane.domain.controller_state import CONTROLLER, ControllerState, DrainRequest
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.state import NOT_STORED, STORE_SECONDS, StateKeeper, rounded
from controlplane.store.contract import StoreUnavailable, Version
from controlplane.store.file.store import FileStore

STATE = ControllerState(5000.0, {"s4": 0.5}, {"web": {"s1": 1.5}}, {})
MOVED = {"web": TableFacts(last_moved_at=4000)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path / "store")
    yield made
    made.close()


def keeper(store: FileStore) -> StateKeeper:
    return StateKeeper(store, ConditionLog())


def stored(store: FileStore) -> ControllerState:
    version = store.latest(CONTROLLER)
    assert version
    return decode_controller(version.data)


def test_a_successor_goes_on_from_what_was_stored(store: FileStore) -> None:
    first = keeper(store)
    first.begin({}, 0.0)
    first.keep(STATE, {}, 0.0)
    second = keeper(store)
    assert second.seconds(MOVED, 77.0) == 5000.0
    assert second.seconds(MOVED, 78.0) == 5001.0
    assert second.known == STATE


def test_what_tables_have_is_included(store: FileStore) -> None:
    first = keeper(store)
    first.begin({}, 0.0)
    first.keep(STATE, {}, 0.0)
    second = keeper(store)
    assert second.seconds({"web": TableFacts(last_moved_at=6000)}, 0.0) == 6000.0
    assert second.seconds({"web": TableFacts(last_moved_at=7000)}, 2.0) == 7000.0, "a rival's"


def test_an_old_store_begins_at_its_last_move(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables have Unix seconds, perhaps of a clock that was ahead: nothing is old at once."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    with capture_logs() as logs:
        begun = keeper(store).seconds({"web": TableFacts(last_moved_at=1_790_000_000)}, 9.0)
    assert begun == 1_790_000_000
    assert "the store does not have it" in str(logs)


def test_a_new_store_begins_anywhere_without_a_word(store: FileStore) -> None:
    with capture_logs() as logs:
        assert keeper(store).seconds({}, 0.0) > 1
    assert logs == []


@pytest.mark.parametrize("data", [b"", b"{}", encode_controller(STATE, 1)[:-9]])
def test_a_damaged_state_is_logged_and_replaced(store: FileStore, data: bytes) -> None:
    store.publish(Version(CONTROLLER, 1, data))
    found = keeper(store)
    with capture_logs() as logs:
        assert found.seconds(MOVED, 0.0) == 4000.0
    assert found.known == ControllerState()
    assert [line["event"].split(":")[0] for line in logs] == ["no state of an earlier controller"]
    assert "document refused" in logs[0]["reason"]
    found.keep(STATE, {}, 0.0)
    assert stored(store) == STATE


def test_it_is_stored_with_documents_and_requests_and_every_few_seconds(store: FileStore) -> None:
    found = keeper(store)
    found.begin({}, 0.0)

    def generation_at(now: float, state: ControllerState = STATE, **published: int) -> int:
        found.keep(state, published, now)
        return store.latest(CONTROLLER).generation  # type: ignore[union-attr] # there is one

    assert generation_at(0.0) == 1
    assert generation_at(STORE_SECONDS - 1) == 1
    assert generation_at(STORE_SECONDS) == 2
    assert generation_at(STORE_SECONDS + 1, web=1) == 3
    assert generation_at(STORE_SECONDS + 2, web=1) == 3
    asked = ControllerState(5000.0, requests={"s2": DrainRequest("a@b")})
    assert generation_at(STORE_SECONDS + 3, asked, web=1) == 4
    assert stored(store).requests == {"s2": DrainRequest("a@b")}


def test_two_controllers_overtake_each_other_and_time_does_not_go_back(store: FileStore) -> None:
    one, two = keeper(store), keeper(store)
    for each in (one, two):
        each.begin({}, 0.0)
    one.keep(STATE, {}, 0.0)
    two.keep(ControllerState(10.0), {}, 0.0)
    assert stored(store) == STATE, "the second lost"
    assert two.seconds({}, 0.0) >= 5000.0
    two.keep(ControllerState(5001.0), {}, 1.0)
    assert stored(store).fleet_seconds == 5001.0


def test_a_store_that_is_full_stops_nothing(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = keeper(store)
    found.begin({}, 0.0)

    def full(_: Version) -> None:
        raise StoreUnavailable("no space left")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(store, "publish", full)
        found.keep(STATE, {}, 0.0)
        found.keep(STATE, {}, 1.0)
    assert [line["event"] for line in logs] == [NOT_STORED]
    with capture_logs() as logs:
        found.keep(STATE, {}, 2.0)
    assert [line["event"] for line in logs] == [f"{NOT_STORED}: over"]


def test_numbers_are_short_and_the_mean_is_left_out() -> None:
    given = ControllerState(
        1.00049, {"s4": 0.123456}, {"web": {"s1": 1.00001, "s2": 1.23456, "s3": 0.0}, "b": {}}, {}
    )
    short = rounded(given)
    assert (short.fleet_seconds, short.slow_start) == (1.0, {"s4": 0.1235})
    assert short.shares == {"web": {"s2": 1.235, "s3": 1e-6}}
    assert decode_controller(encode_controller(short, 1)) == short
