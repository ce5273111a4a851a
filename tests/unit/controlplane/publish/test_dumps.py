"""When the last dumps of servers are stored, for plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain.seen_dumps import SeenDump
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.dumps import WRITE_SECONDS, DumpWriter
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.store import FileStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path / "store")
    yield made
    made.close()


def test_new_dumps_are_stored_with_the_time_at_which_they_were_seen(store: FileStore) -> None:
    writer = DumpWriter(store, ConditionLog())
    writer.write({"s1": (5.0, "a"), "s2": (None, "b")}, 8.0, 1000.0)
    assert store.dumps() == {"s1": SeenDump(997.0, "a"), "s2": SeenDump(0.0, "b")}
    writer.write({"s1": (9.0, "c")}, 8.0 + WRITE_SECONDS / 2, 1001.0)
    assert store.dumps()["s1"].body == "a", "it is too early"
    writer.write({"s1": (9.0, "c")}, 108.0, 1100.0)
    assert store.dumps() == {"s1": SeenDump(1001.0, "c")}


def test_a_store_that_fails_stops_nothing_and_is_tried_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DumpWriter(store, ConditionLog())

    def gone(*_: object) -> None:
        raise StoreUnavailable("the store is gone")

    monkeypatch.setattr(FileStore, "put_dumps", gone)
    writer.write({"s1": (5.0, "a")}, 8.0, 1000.0)
    monkeypatch.undo()
    writer.write({"s1": (5.0, "a")}, 108.0, 1100.0)
    assert store.dumps()["s1"].body == "a"
