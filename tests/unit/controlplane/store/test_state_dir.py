"""An agent's state directory, and reading it for `lbctl control --seed`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.store.contract import StoreCorrupt, StoreDenied, StoreUnavailable
from controlplane.store.state_dir import StateDir, read_state_dir
from tests.unit.controlplane.store.test_agents import HOSTILE

KEY = b"\xa5" * 16


def test_what_was_saved_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    assert state.load_document("cluster") is None
    assert state.documents() == {}
    state.save_document("cluster", b"old")
    state.save_document("cluster", b"new")
    state.save_document("table/web", bytes(range(256)))
    state.save_key("web-1", b"0" * 16)
    state.save_key("web-1", KEY)
    again = StateDir(tmp_path / "state")
    assert again.documents() == {"cluster": b"new", "table/web": bytes(range(256))}
    assert again.load_document("cluster") == b"new"
    assert (again.key("web-1"), again.key_ids()) == (KEY, ("web-1",))


def test_the_format_is_the_documented_one(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.save_document("cluster", b"c")
    state.save_document("table/a.b", b"t")
    state.save_key("k", KEY)
    assert (tmp_path / "documents/cluster.json").read_bytes() == b"c"
    assert (tmp_path / "documents/table.a.b.json").read_bytes() == b"t"
    assert (tmp_path / "keys/k").read_bytes() == KEY
    assert stat.S_IMODE((tmp_path / "keys/k").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_directory_written_by_hand_seeds(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/cluster.json").write_bytes(b"c")
    (tmp_path / "documents/table.web.json").write_bytes(b"t")
    (tmp_path / "documents/notes.txt").write_bytes(b"mine")
    (tmp_path / "documents/other.json").write_bytes(b"mine")
    (tmp_path / "record.json").write_bytes(b"mine")
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys/web-1").write_bytes(KEY)
    (tmp_path / "keys/web-1").chmod(0o600)
    saved = read_state_dir(tmp_path)
    assert saved.documents == {"cluster": b"c", "table/web": b"t"}
    assert saved.keys == {"web-1": KEY}
    assert "a5" not in repr(saved)


def test_a_seed_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="state_dir"):
        read_state_dir(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with pytest.raises(StoreUnavailable, match="state_dir"):
        read_state_dir(tmp_path)


def test_a_seed_with_a_readable_key_is_refused(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.save_document("cluster", b"c")
    state.save_key("k", KEY)
    (tmp_path / "keys/k").chmod(0o644)
    with pytest.raises(StoreDenied, match="chmod 600"):
        read_state_dir(tmp_path)


def test_a_pool_that_is_no_more_is_forgotten(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.save_document("table/web", b"t")
    state.forget_document("table/web")
    state.forget_document("table/web")
    assert state.documents() == {}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    state = StateDir(tmp_path / "state")
    acts: list[Callable[[], object]] = [
        lambda: state.save_document(name, b""),
        lambda: state.save_document(f"table/{name}", b""),
        lambda: state.load_document(name),
        lambda: state.save_key(name, KEY),
        lambda: state.key(name),
    ]
    for act in acts:
        with pytest.raises(StoreCorrupt):
            act()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_leftovers_are_swept(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.save_document("cluster", b"c")
    (tmp_path / "tmp/left").write_bytes(b"half")
    os.utime(tmp_path / "tmp/left", (1.0, 1.0))
    state.save_document("cluster", b"d")
    assert list((tmp_path / "tmp").iterdir()) == []
