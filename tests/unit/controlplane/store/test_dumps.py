"""Servers' last dumps in a store: they come back as they were, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.seen_dumps import SeenDump
from controlplane.store.contract import StoreCorrupt
from controlplane.store.dumps import decode_dumps
from controlplane.store.file.store import FileStore


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    assert store.dumps() == {}
    dumps = {"s1": SeenDump(12.5, {"number": 1}), "s2": SeenDump(0.0, None)}
    store.put_dumps(dumps)
    assert store.dumps() == dumps
    store.close()


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"s1": 1}', b'{"s1": {"at": -1}}', b'{"../x": {"at": 1}}']
)
def test_damage_is_named(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        decode_dumps(data)
