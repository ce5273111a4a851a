"""What happened to servers, from round to round, beside what was foreseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlplane.builder import BuildResult
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.history import MOST_EVENTS, Event, EventKind, Foreseen, Happened
from controlplane.domain.objects import Cluster, Server, ServerState, Table
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.history import LONGEST_SECONDS, STRAY_SECONDS, HistoryKeeper, Moment
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.store import FileStore

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
TABLE, FLAT = (
    Table("web", 1, 1, np.ones((1, depth), np.uint16), np.ones(1, np.uint32)) for depth in (2, 1)
)


def table(moved: int = 0, forced: int = 0, lost: float | None = None) -> BuildResult:
    """A table that was published."""
    return BuildResult(TABLE, moved, 0, forced, 0, 0, 0, 0, {}, lost_connections=lost)


class Rounds:
    """Rounds of a fleet of two, a second apart."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.now = 100.0
        self.begin()

    def begin(self) -> None:
        """A controller begins, or takes over."""
        self._keeper = HistoryKeeper(self.store, ConditionLog())

    def kept(self) -> list[Event]:
        """What the keeper has in memory."""
        return self._keeper.events

    def round(self, *results: BuildResult, **moment: Any) -> list[Event]:
        """Do a round with servers in these states; return the events that are stored."""
        self.follow(*results, **moment)
        return list(self.store.history())

    def follow(
        self,
        *results: BuildResult,
        settled: bool = True,
        strays: int = 0,
        current: Mapping[int, int] | None = None,
        requests: Mapping[str, DrainRequest] | None = None,
        seconds: float = 1.0,
        **states: ServerState,
    ) -> None:
        """Do a round with servers in these states."""
        self.now += seconds
        servers = tuple(
            Server(name, IPv4Address("10.1.0.0") + i, i, states.get(name, ACTIVE))
            for i, name in enumerate(("s1", "s2"), 1)
        )
        facts = {"web": TableFacts(current={1: 8, 2: 8} if current is None else current)}
        self._keeper.follow(
            Moment(
                Cluster(1, servers),
                requests or {},
                facts,
                results,
                settled,
                strays,
                self.now,
                1000.0 + self.now,
            )
        )


def gone(*_: Any) -> None:
    raise StoreUnavailable("the store is gone")


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[Rounds]:
    store = FileStore(tmp_path / "store")
    yield Rounds(store)
    store.close()


def test_a_drain_is_kept_with_who_why_what_was_foreseen_and_what_happened(rounds: Rounds) -> None:
    foreseen = Foreseen(EventKind.DRAIN, 8, 2, 5, 0.06)
    requests = {"s1": DrainRequest("ann@ctl", 1.0, "kernel")}
    rounds.round(table(3, 1, 9.0), strays=4)
    rounds.store.put_foreseen("s1", foreseen)
    (event,) = rounds.round(table(0), strays=4, requests=requests, settled=False, s1=DRAINING)
    assert (event.at, event.by, event.reason) == (1102.0, "ann@ctl", "kernel")
    assert (event.foreseen, event.over) == (foreseen, False)
    rounds.round(table(8, 2, 5.2), strays=4, settled=False, s1=DRAINING)
    rounds.round(strays=4, current={2: 16}, s1=DRAINING)
    rounds.round(table(7), strays=10, current={2: 16}, s1=DRAINING)
    (event,) = rounds.round(current={2: 16}, seconds=STRAY_SECONDS, s1=DRAINING)
    assert event.over
    assert event.happened == Happened(8, 2, 5, 6, 2.0), "later moves are not its own, strays are"


def test_the_first_round_of_a_controller_begins_nothing_and_goes_on(rounds: Rounds) -> None:
    rounds.round()
    rounds.round(table(2), current={2: 16}, settled=False, s1=DRAINING)
    rounds.begin()
    rounds.round(table(6), current={2: 16}, settled=False, s1=DRAINING)
    (event,) = rounds.round(current={2: 16}, s1=DRAINING)
    (event,) = rounds.round(current={2: 16}, seconds=STRAY_SECONDS, s1=DRAINING)
    assert (event.over, event.happened.buckets, event.happened.seconds) == (True, 8, 2.0)


def test_the_end_of_a_drain_lasts_until_slow_start_is_over(rounds: Rounds) -> None:
    rounds.round(current={2: 16}, s1=DRAINING)
    rounds.store.put_foreseen("s1", Foreseen(EventKind.UNDRAIN, 8, 0, 0, 30.0))
    rounds.round(s1=JOINING)
    rounds.round(table(8), seconds=30.0, s1=JOINING)
    (event,) = rounds.round()
    (event,) = rounds.round(seconds=STRAY_SECONDS)
    assert (event.kind, event.over, event.happened.seconds) == (EventKind.UNDRAIN, True, 31.0)
    assert event.foreseen is not None


def test_a_newcomer_and_a_loss_are_events_too(rounds: Rounds) -> None:
    rounds.round(s1=REGISTERED, s2=ACTIVE)
    rounds.store.put_foreseen("s2", Foreseen(EventKind.DRAIN, 8, 0, 0, 1.0))
    rounds.store.put_foreseen("s1", Foreseen(EventKind.UNDRAIN, 8, 0, 0, 1.0))
    events = rounds.round(s1=JOINING, s2=DOWN)
    assert [(event.server, event.kind) for event in events] == [
        ("s1", EventKind.JOIN),
        ("s2", EventKind.DOWN),
    ]
    assert events[0].foreseen is not None, "a drain that ended while the server was away"
    assert events[1].foreseen is None, "another change was foreseen"
    assert [event.happened.lost for event in events] == [0, None], "what goes with a server"


def test_another_change_of_a_server_ends_the_one_before(rounds: Rounds) -> None:
    rounds.round()
    rounds.round(settled=False, s1=DRAINING)
    first, second = rounds.round(table(4), settled=False, s1=JOINING)
    assert (first.kind, first.over, first.happened.buckets) == (EventKind.DRAIN, True, 0)
    assert (second.kind, second.over, second.happened.buckets) == (EventKind.UNDRAIN, False, 4)


@pytest.mark.parametrize(
    ("results", "lost"),
    [
        ([table(8, 2, None)], None),
        ([table(8, 2, 3.0), table(8, 2, 4.4)], 7),
        ([table(8, 0, None)], 0),
        ([replace(table(8, 0, 0.0), table=FLAT)], None),
        ([BuildResult(None, 0, 0, 3, 3, 0, 0, 0, {})], 0),
    ],
    ids=["unknown", "both", "nothing pushed out", "depth 1", "not published"],
)
def test_losses_are_unknown_if_hops_left_whose_connections_are_not_known(
    rounds: Rounds, results: list[BuildResult], lost: int | None
) -> None:
    rounds.round()
    (event,) = rounds.round(*results, settled=False, s1=DRAINING)
    assert event.happened.lost == lost


def test_an_event_that_never_ends_ends(rounds: Rounds) -> None:
    rounds.round()
    rounds.round(settled=False, s1=DRAINING)
    (event,) = rounds.round(seconds=LONGEST_SECONDS, settled=False, s1=DRAINING)
    assert (event.over, event.ended) == (True, None)


def test_the_newest_events_alone_are_kept(rounds: Rounds) -> None:
    rounds.round()
    for _ in range(MOST_EVENTS):
        rounds.round(s1=DRAINING)
        events = rounds.round(s1=ACTIVE)
    assert len(events) == len(rounds.kept()) == MOST_EVENTS
    assert events[-1].at == 1000.0 + rounds.now


def test_a_damaged_history_begins_anew(rounds: Rounds) -> None:
    rounds.store.put_history([])
    (rounds.store.directory / "history.json").write_bytes(b"{")
    rounds.follow()
    (event,) = rounds.round(settled=False, s1=DRAINING)
    assert event.kind is EventKind.DRAIN


def test_a_store_that_fails_stops_nothing(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("history", "put_history", "take_foreseen"):
        monkeypatch.setattr(FileStore, name, gone)
    rounds.follow()
    monkeypatch.undo()
    rounds.follow()
    for name in ("put_history", "take_foreseen"):
        monkeypatch.setattr(FileStore, name, gone)
    rounds.follow(settled=False, s1=DRAINING)
    monkeypatch.undo()
    assert rounds.store.history() == ()
    (event,) = rounds.round(table(8), seconds=5.0, current={2: 16}, s1=DRAINING)
    assert event.happened.buckets == 8
