"""What happened to servers in a store: it comes back as it was, bounded, and damage is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from controlplane.domain.history import MOST_EVENTS, Event, EventKind, Foreseen, Happened
from controlplane.store.contract import StoreCorrupt
from controlplane.store.file.store import FileStore
from controlplane.store.history import decode_history, encode_history

FORESEEN = Foreseen(EventKind.DRAIN, 64, 2, None, 0.06)
EVENT = Event(
    "s1",
    EventKind.DRAIN,
    1_700_000_000.5,
    12.5,
    "ann@ctl",
    "kernel",
    FORESEEN,
    Happened(64, 2, 7, 1, 0.4),
    3,
    12.9,
    over=True,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path / "store")
    yield made
    made.close()


def test_events_come_back_as_they_were(store: FileStore) -> None:
    assert store.history() == ()
    going_on = Event("s2", EventKind.DOWN, 1.0, 2.0)
    store.put_history([EVENT, going_on])
    assert store.history() == (EVENT, going_on)


def test_the_oldest_are_forgotten(store: FileStore) -> None:
    store.put_history([replace(EVENT, at=float(n)) for n in range(MOST_EVENTS + 5)])
    assert [event.at for event in store.history()] == list(range(5, MOST_EVENTS + 5))


def test_what_is_foreseen_is_taken_once_and_goes_with_its_server(store: FileStore) -> None:
    assert store.take_foreseen("s1") is None
    store.put_foreseen("s1", FORESEEN)
    assert store.take_foreseen("s2") is None
    assert store.take_foreseen("s1") == FORESEEN
    assert store.take_foreseen("s1") is None
    store.put_foreseen("s1", FORESEEN)
    store.forget("s1")
    assert store.take_foreseen("s1") is None


def test_damage_of_what_is_foreseen_costs_only_that(store: FileStore) -> None:
    store.put_foreseen("s1", FORESEEN)
    (store.directory / "foreseen/s1.json").write_bytes(b'{"kind": "drain"}')
    assert store.take_foreseen("s1") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server", "../x"),
        ("kind", "explode"),
        ("at", "now"),
        ("began", -1),
        ("by", None),
        ("foreseen", []),
        ("happened", None),
        ("strays_before", 1.5),
        ("ended", "never"),
    ],
)
def test_a_damaged_event_is_named(key: str, value: object) -> None:
    event = {**asdict(EVENT), key: value}
    with pytest.raises(StoreCorrupt):
        decode_history(json.dumps({"events": [event]}).encode())


def test_too_many_or_no_events_are_damage() -> None:
    for events in (None, [asdict(EVENT)] * (MOST_EVENTS + 1), [1]):
        with pytest.raises(StoreCorrupt):
            decode_history(json.dumps({"events": events}).encode())
    assert decode_history(encode_history([EVENT])) == (EVENT,)
