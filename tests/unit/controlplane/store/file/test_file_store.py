"""What the `file:` store promises of its files: modes, pruning, dead writers, spoilt content."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.objects import Report
from controlplane.store.contract import (
    StoreConflict,
    StoreCorrupt,
    StoreDenied,
    StoreUnavailable,
    Version,
)
from controlplane.store.file import generations
from controlplane.store.file.atomic import create_file, read_file, sweep_temporaries, temporary
from controlplane.store.file.generations import KEPT_GENERATIONS
from controlplane.store.file.store import FileStore
from tests.unit.controlplane.store.helpers import Worker, document, read_document

KIND = "table/web"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory: Path) -> FileStore:
    return FileStore(directory)


def publish_to(store: FileStore, newest: int) -> None:
    for generation in range(store.kinds().get(KIND, 0) + 1, newest + 1):
        store.publish(Version(KIND, generation, document(generation, "me", 100)))


def snapshot(directory: Path) -> dict[str, bytes]:
    """All files with content, except the locks, whose being there means nothing."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_old_generations_are_pruned(store: FileStore, directory: Path) -> None:
    publish_to(store, KEPT_GENERATIONS * 3)
    kept = sorted(int(path.stem) for path in (directory / "documents/table.web").glob("*.json"))
    assert kept == list(range(KEPT_GENERATIONS * 2 + 1, KEPT_GENERATIONS * 3 + 1))


def test_a_pruned_generation_is_never_made_again(
    store: FileStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher stops between looking and linking; meanwhile what it would make comes and goes.

    It may lose or, since nothing may be pruned under it, meet the file: win it may not.
    """
    publish_to(store, 5)

    def slow(path: Path, data: bytes, temporaries: Path) -> None:
        monkeypatch.undo()
        publish_to(FileStore(directory), 6 + KEPT_GENERATIONS * 3)
        create_file(path, data, temporaries)

    monkeypatch.setattr(generations, "create_file", slow)
    with pytest.raises(StoreConflict):
        store.publish(Version(KIND, 6, b"too late"))
    assert store.kinds() == {KIND: 6 + KEPT_GENERATIONS * 3}
    publish_to(store, 7 + KEPT_GENERATIONS * 3)
    assert len(list((directory / "documents/table.web").glob("*.json"))) == KEPT_GENERATIONS
    with pytest.raises(StoreConflict):
        store.publish(Version(KIND, 6, b"much too late"))


def test_a_reader_whose_generation_is_pruned_gets_a_newer_one(
    store: FileStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_to(store, 5)

    def slow(path: Path, limit_bytes: int) -> bytes:
        monkeypatch.undo()
        publish_to(FileStore(directory), 5 + KEPT_GENERATIONS * 2)
        return read_file(path, limit_bytes)

    monkeypatch.setattr(generations, "read_file", slow)
    version = store.latest(KIND)
    assert version is not None
    assert version.generation == 5 + KEPT_GENERATIONS * 2
    read_document(version)


def test_failing_to_prune_is_said_and_fails_no_publication(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_to(store, KEPT_GENERATIONS)

    def broken(path: Path, missing_ok: bool = False) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "unlink", broken)
    with capture_logs() as logs:
        gone = store._generations(KIND)
        gone._prune()
        monkeypatch.undo()
        assert logs == []  # nothing to prune yet
        publish_to(store, KEPT_GENERATIONS + 1)
        publish_to(store, KEPT_GENERATIONS + 1)
        (store.directory / "documents/table.web" / "1.json").write_bytes(b"back")
        monkeypatch.setattr(Path, "unlink", broken)
        gone._prune()
    assert [log["event"] for log in logs] == ["cannot remove old generations"]


def test_a_publication_is_flushed_before_it_appears_and_after(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_to(store, 1)
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def record_fsync(descriptor: int) -> None:
        what = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"flush {what}")
        fsync(descriptor)

    def record_link(source: Path, target: Path, **options: bool) -> None:
        done.append("appear")
        link(source, target, **options)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record_link)
    store.publish(Version(KIND, 2, b"x"))
    assert done == ["flush file", "appear", "flush directory"]
    done.clear()
    store.latest(KIND)
    assert done == ["flush directory"]  # a reader acts on nothing that a power cut could take back
    store.latest(KIND)
    assert done == ["flush directory"]  # once is enough
    done.clear()
    store.report(Report("alpha", "b", 1, 0.0))
    store.acknowledge("alpha", KIND, 2)
    assert done == []


@pytest.mark.parametrize(
    ("where", "published"), [("write", False), ("link", False), ("sync", True)]
)
def test_a_publisher_killed_at_any_point_leaves_all_or_nothing(
    store: FileStore, directory: Path, where: str, published: bool
) -> None:
    publish_to(store, 3)
    with Worker("die", f"file:{directory}", where) as worker:
        assert worker.process.wait(30) == -9
    newest = 4 if published else 3
    successor = FileStore(directory)
    version = successor.latest(KIND)
    assert version is not None
    assert (version.generation, read_document(version)) == (newest, "dead" if published else "me")
    successor.publish(Version(KIND, newest + 1, document(newest + 1, "successor")))


def test_what_dead_writers_left_is_removed_and_what_is_fresh_is_not(
    store: FileStore, directory: Path
) -> None:
    publish_to(store, 1)
    with Worker("die", f"file:{directory}", "write") as worker:
        worker.process.wait(30)
    (left,) = (directory / "tmp").iterdir()
    FileStore(directory).kinds()
    assert left.exists()
    os.utime(left, (1.0, 1.0))
    FileStore(directory).kinds()
    assert list((directory / "tmp").iterdir()) == []


def test_no_call_leaves_a_temporary_file(store: FileStore, directory: Path) -> None:
    publish_to(store, 2)
    acts: list[Callable[[], object]] = [
        lambda: store.publish(Version(KIND, 2, b"")),
        lambda: store.seed(Version(KIND, 2, b"")),
        lambda: store.put_key("k", b"short"),
    ]
    for act in acts:
        with pytest.raises((StoreConflict, StoreCorrupt)):
            act()
    store.put_key("k", bytes(16))
    store.put_key("k", bytes(16))
    store.report(Report("alpha", "b", 1, 0.0))
    store.acknowledge("alpha", KIND, 2)
    assert list((directory / "tmp").iterdir()) == []


def test_a_full_disk_changes_nothing(store: FileStore, directory: Path) -> None:
    publish_to(store, 3)
    before = snapshot(directory)
    with Worker("starve", f"file:{directory}", 8) as worker:
        raised = worker.result()
    assert len(raised) == 4
    for line in raised:
        assert line.startswith("StoreUnavailable: cannot ")
        assert line.endswith("free space on the disk")
    assert snapshot(directory) == before
    publish_to(store, 4)


def test_all_of_it_is_for_its_owner_alone(store: FileStore, directory: Path) -> None:
    old = os.umask(0)
    try:
        publish_to(store, 1)
        store.put_key("k", bytes(16))
        store.report(Report("alpha", "b", 1, 0.0))
        store.request_drain("alpha", requested=True)
        with store.lead("me"):
            pass
    finally:
        os.umask(old)
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(
    store: FileStore, directory: Path, mode: int
) -> None:
    store.put_key("web", b"\xaa" * 16)
    (directory / "keys/web").chmod(mode)
    with pytest.raises(StoreDenied, match="chmod 600") as caught:
        store.key("web")
    assert "aa" not in str(caught.value)


def test_a_directory_of_keys_that_others_can_enter_is_refused(
    store: FileStore, directory: Path
) -> None:
    store.put_key("web", b"\xaa" * 16)
    (directory / "keys").chmod(0o711)
    with pytest.raises(StoreDenied, match="chmod 700"):
        store.key("web")


def test_a_key_is_no_symbolic_link(store: FileStore, directory: Path, tmp_path: Path) -> None:
    store.put_key("other", bytes(16))
    (directory / "keys/web").symlink_to(directory / "keys/other")
    with pytest.raises(StoreDenied, match="symbolic link"):
        store.key("web")


def test_a_spoilt_key_is_corrupt_and_not_shown(store: FileStore, directory: Path) -> None:
    store.put_key("web", bytes(16))
    for spoilt in (b"", b"sesame", b"sesame-open-thyself"):
        (directory / "keys/web").write_bytes(spoilt)
        with pytest.raises(StoreCorrupt) as caught:
            store.key("web")
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_store_that_others_can_write_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(StoreDenied, match="chmod go-w"):
        FileStore(directory).kinds()


@pytest.mark.parametrize(
    "name", ["0.json", "-1.json", "07.json", "1.json~", "x", ".9.json.swp", "9" * 20 + ".json"]
)
def test_strange_files_are_no_generations(store: FileStore, directory: Path, name: str) -> None:
    publish_to(store, 2)
    (directory / "documents/table.web" / name).write_bytes(b"strange")
    (directory / "documents" / "stray").mkdir()
    (directory / "documents" / "stray" / "9.json").write_bytes(b"strange")
    (directory / "documents" / "table.").mkdir()
    assert store.kinds() == {KIND: 2}
    publish_to(store, 3)


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


Spoil = Callable[[Path], object]
SPOILT: dict[str, Spoil] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "binary": lambda path: path.write_bytes(os.urandom(100)),
    "huge": lambda path: path.write_bytes(b" " * (1 << 21)),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "other type": lambda path: path.write_bytes(b"[]"),
    "a directory": replaced(Path.mkdir),
    "a link": replaced(lambda path: path.symlink_to("/etc/passwd")),
    "a pipe": replaced(os.mkfifo),
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("what", ["reports", "acknowledgements"])
def test_a_spoilt_file_is_logged_once_and_is_nobody_elses_trouble(
    store: FileStore, directory: Path, what: str, spoil: str
) -> None:
    for server in ("alpha", "beta"):
        store.report(Report(server, "b", 1, 0.0))
        store.acknowledge(server, KIND, 1)
    path = directory / what / "alpha.json"
    SPOILT[spoil](path)
    read = store.reports if what == "reports" else store.acknowledgements
    with capture_logs() as logs:
        assert set(read()) == {"beta"}
        assert set(read()) == {"beta"}
    assert [(log["event"], log["path"]) for log in logs] == [("file ignored", str(path))]


def test_a_spoilt_file_is_mended_by_its_server(store: FileStore, directory: Path) -> None:
    path = directory / "acknowledgements/alpha.json"
    store.acknowledge("alpha", KIND, 1)
    for _ in range(2):  # logged again after it was well
        path.write_bytes(b"{")
        with capture_logs() as logs:
            store.acknowledge("alpha", KIND, 2)
        assert len(logs) == 1
        assert store.acknowledgements() == {"alpha": {KIND: 2}}


def test_a_report_in_anothers_place_does_not_count(store: FileStore, directory: Path) -> None:
    store.report(Report("alpha", "b", 1, 0.0))
    (directory / "reports/alpha.json").rename(directory / "reports/beta.json")
    assert store.reports() == {}


@pytest.mark.parametrize("spoil", ["a directory", "a link", "a pipe"])
def test_a_document_that_is_no_file_is_corrupt(
    store: FileStore, directory: Path, spoil: str
) -> None:
    publish_to(store, 2)
    SPOILT[spoil](directory / "documents/table.web/2.json")
    with pytest.raises(StoreCorrupt):
        store.latest(KIND)


def test_a_document_has_a_largest_size(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(StoreCorrupt, match="over 100"):
        store.publish(Version(KIND, 1, bytes(101)))
    store.publish(Version(KIND, 1, bytes(100)))
    monkeypatch.setattr(generations, "MAX_DOCUMENT_BYTES", 99)
    with pytest.raises(StoreCorrupt, match="larger than 99"):
        store.latest(KIND)


def test_a_stopped_pruner_makes_publishers_unavailable_not_wrong(
    store: FileStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    publish_to(store, 2)
    monkeypatch.setattr(generations, "LOCK_WAIT_SECONDS", 0.05)
    with (directory / "documents/table.web/lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="stopped while publishing"):
            store.publish(Version(KIND, 3, b"x"))
        assert store.kinds() == {KIND: 2}
        fcntl.flock(held, fcntl.LOCK_UN)
        fcntl.flock(held, fcntl.LOCK_SH)  # another publisher, stopped: it blocks no one
        publish_to(store, 3 + KEPT_GENERATIONS)
    publish_to(store, 4 + KEPT_GENERATIONS)
    assert len(list((directory / "documents/table.web").glob("*.json"))) == KEPT_GENERATIONS


def test_a_store_that_is_removed_is_an_empty_store_again(
    store: FileStore, directory: Path, tmp_path: Path
) -> None:
    publish_to(store, 2)
    directory.rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        store.kinds()
    assert store.kinds() == {}
    publish_to(store, 1)


def test_a_store_in_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreCorrupt, match="something else is in the place"):
        FileStore(tmp_path / "file").kinds()
    with pytest.raises(StoreCorrupt, match="something else is in the place"):
        FileStore(tmp_path / "file" / "below").report(Report("alpha", "b", 1, 0.0))


def test_a_store_of_somebody_else_is_denied(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with Worker("trespass", f"file:{tmp_path / 'store'}") as worker:
        raised = worker.result()
    assert raised.startswith("StoreDenied: cannot list the documents: Permission denied")
    assert raised.endswith("run as the owner of the directory, usually root")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"{}", b'{"by": 1}', b"x" * 5000, b'{"by": "a", "at": NaN, "reason": ""}'],
    ids=["an earlier version's", "binary", "empty", "wrong", "large", "not a time"],
)
def test_a_drain_is_requested_whatever_the_file_holds(
    store: FileStore, directory: Path, content: bytes
) -> None:
    """Damage must not bring a drained server back."""
    store.request_drain("alpha", requested=True)
    (directory / "wishes/alpha").write_bytes(content)
    assert store.drain_requests() == {"alpha": DrainRequest()}


def test_what_a_request_shows_is_safe_to_print(store: FileStore) -> None:
    store.request_drain("alpha", requested=True, request=DrainRequest("a\x1b[2J", 1.0, "r" * 999))
    found = store.drain_requests()["alpha"]
    assert found.by == "a?[2J"
    assert len(found.reason) == 160


def test_a_clock_that_is_put_forward_takes_no_file_from_a_writer_that_lives(
    tmp_path: Path,
) -> None:
    left = tmp_path / "left"
    left.write_bytes(b"half")
    (tmp_path / "link").symlink_to("nothing")
    with temporary(tmp_path, b"whole", durable=False) as being_written:
        sweep_temporaries(tmp_path, time.time() + 3600)
        assert being_written.read_bytes() == b"whole"
        assert [path.name for path in tmp_path.iterdir()] == [being_written.name]
