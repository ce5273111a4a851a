"""The record of a run: its owner, and the removal of what ended processes left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from netns.leftovers import remove, remove_leftovers
from netns.process import ProcessId, is_alive, kill_and_wait, myself, start_time
from netns.record import Owner, RunRecord, boot_id, records


def made(root: Path, run: str, owner: Owner | None) -> RunRecord:
    record = RunRecord(run, root / run)
    record.path.mkdir(parents=True)
    if owner is not None:
        record.write_owner(owner)
    return record


def dead(**changes: bool) -> Owner:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    start = start_time(child.pid)
    assert start is not None
    child.wait()
    return Owner(child.pid, start, boot_id(), **changes)


def alive() -> Owner:
    me = myself()
    return Owner(me.pid, me.start, boot_id())


def test_an_owner_is_alive_only_as_the_same_process_in_the_same_boot() -> None:
    me = alive()
    assert me.alive
    assert not Owner(me.pid, me.start + 1, me.boot_id).alive
    assert not Owner(me.pid, me.start, "another boot").alive
    assert not dead().alive


def test_only_runs_of_ended_processes_are_removed(tmp_path: Path) -> None:
    made(tmp_path, "aaaaaa", dead())
    made(tmp_path, "bbbbbb", alive())
    made(tmp_path, "cccccc", dead(kept=True))
    assert remove_leftovers(tmp_path) == ["aaaaaa"]
    assert [record.run for record in records(tmp_path)] == ["bbbbbb", "cccccc"]
    assert remove_leftovers(tmp_path, kept=True) == ["cccccc"]
    assert [record.run for record in records(tmp_path)] == ["bbbbbb"]


def test_an_incomplete_record_belongs_to_its_creator(tmp_path: Path) -> None:
    (tmp_path / f".new-{os.getpid()}-abcdef").mkdir()
    (tmp_path / f".new-{dead().pid}-abcde0").mkdir()
    assert remove_leftovers(tmp_path) == ["abcde0"]
    assert [record.run for record in records(tmp_path)] == ["abcdef"]


def test_removing_twice_is_harmless(tmp_path: Path) -> None:
    root = tmp_path / "root"
    record = made(root, "aaaaaa", dead())
    remove(record)
    remove(record)
    assert not root.exists()


def test_a_marked_process_is_found_and_ended_and_another_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    record = made(root, "deadbe", dead())
    sleeper = ["sleep", "60"]
    ours = subprocess.Popen(
        sleeper, env={**os.environ, "BUCKET_BRIGADE_RUN": "deadbe"}, start_new_session=True
    )
    other = subprocess.Popen(
        sleeper, env={**os.environ, "BUCKET_BRIGADE_RUN": "deadbee"}, start_new_session=True
    )
    try:
        remove(record)
        assert ours.wait(5) != 0
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_sessions_are_remembered_with_their_start(tmp_path: Path) -> None:
    record = made(tmp_path, "aaaaaa", alive())
    assert record.sessions() == {}
    record.add_session(ProcessId(7, 100))
    record.add_session(ProcessId(7, 200))
    record.add_session(ProcessId(8, 300))
    assert record.sessions() == {7: 200, 8: 300}


def test_killing_spares_a_later_process_of_the_same_number() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        start = start_time(child.pid)
        assert start is not None
        kill_and_wait([ProcessId(child.pid, start + 1)])
        assert is_alive(ProcessId(child.pid, start))
        kill_and_wait([ProcessId(child.pid, start)])
        assert child.wait(5) == -9
    finally:
        child.kill()
        child.wait()


def test_an_unreadable_owner_is_none(tmp_path: Path) -> None:
    record = made(tmp_path, "aaaaaa", None)
    assert record.owner() is None
    (record.path / "owner.json").write_text("{", encoding="utf-8")
    assert record.owner() is None
