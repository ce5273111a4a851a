"""The journal of a rolling run: what survives a power cut, and going on from each of its events."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, UsageError
from controlplane.domain.objects import ServerState
from controlplane.operator.rolling import session
from controlplane.operator.rolling.facts import FleetFacts, Limits, Mark, Phase, ServerFacts
from controlplane.operator.rolling.journal import Journal, read_journal
from controlplane.operator.rolling.session import Options, Resumption, options_of
from tests.unit.controlplane.operator.rolling.fake_world import case

OURS = DrainRequest("ann@ctl", 5.0, "rolling")
OPTIONS = Options(
    "file:/store", (("s1", "10.0.0.1"), ("s2", "10.0.0.2")), ("true",), 1, Limits(), "r"
)
DRAIN: dict[str, Any] = {"event": "drain", "server": "s1", "request": vars(OURS)}
COMMAND: dict[str, Any] = {
    "event": "command", "server": "s1", "connections": 2, "report": ["boot", 7],
}  # fmt: skip
UNDRAIN = {"event": "undrain", "server": "s1"}
DONE = {"event": "done", "server": "s1"}


def ended(code: int) -> dict[str, Any]:
    return {"event": "command_ended", "server": "s1", "code": code, "report": ["boot", 9]}


def written(folder: Path, *events: dict[str, Any]) -> Path:
    path = folder / "run.jsonl"
    journal = Journal(path, lambda: 1.0)
    journal.write("begin", **OPTIONS.as_values())
    for event in events:
        values = dict(event)
        journal.write(values.pop("event"), **values)
    journal.close()
    return path


def resume(path: Path, found: ServerFacts, choice: str | None = None) -> tuple[Phase, list[str]]:
    """Return the phase of s1 after a resumption, and the events that it wrote."""
    history = read_journal(path)
    made = Resumption(path, history, options_of(history.begin), choice)
    made.check()
    journal = Journal(path, lambda: 2.0)
    before = path.read_bytes().count(b"\n")
    turns = made.turns(FleetFacts({"s1": found}), journal, 50.0)
    journal.close()
    assert [turn.name for turn in turns] == ["s1", "s2"]
    assert turns[1].phase is Phase.WAITING
    return turns[0].phase, [
        line.split('"event":"')[1].split('"')[0] for line in path.read_text().splitlines()[before:]
    ]


DRAINED = ServerFacts(ServerState.DRAINING, Mark("boot", 20), request=OURS)
FREE = ServerFacts(ServerState.ACTIVE, Mark("boot", 20))


def test_a_line_is_one_write_and_on_disk_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    write, fsync = os.write, os.fsync

    def noted_write(file: int, data: bytes) -> int:
        calls.append("write")
        return write(file, data)

    def noted_fsync(file: int) -> None:
        calls.append("fsync")
        fsync(file)

    monkeypatch.setattr(os, "write", noted_write)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    journal = Journal(tmp_path / "j", lambda: 1.0)
    calls.clear()
    journal.write("drain", server="s1")
    assert calls == ["write", "fsync"]
    assert (tmp_path / "j").read_bytes() == b'{"at":1.0,"event":"drain","server":"s1"}\n'


def test_a_torn_last_line_counts_as_not_written_and_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path, DRAIN)
    with path.open("ab") as torn:
        torn.write(b'{"at":1.0,"event":"comm')
    assert read_journal(path).servers["s1"].phase is Phase.DRAINING
    journal = Journal(path, lambda: 3.0)
    journal.write("stopped", reason="x", seconds=1.0, broken=None)
    journal.close()
    assert read_journal(path).seconds == 1.0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not the journal"),
        (b'{"event":"drain"}\n', "is not the journal"),
        (b'{"event":"begin"}\nnonsense\n{"event":"end"}\n', "line 2 is damaged"),
        (b'{"event":"begin"}\n[1]\n', "line 2 is damaged"),
        (b'{"event":"begin"}\n{"event":"drain","server":"s1"}\n', "an event is damaged"),
        (b'{"event":"begin"}\n{"event":"stopped"}\n', "an event is damaged"),
    ],
)
def test_a_damaged_journal_is_refused_with_its_line(
    tmp_path: Path, content: bytes, text: str
) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(BrigadeError, match=text):
        read_journal(path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrigadeError, match="--journal names another file"):
        Journal(tmp_path / "file" / "j", lambda: 1.0)


@pytest.mark.parametrize(
    ("events", "found", "choice", "phase", "more"),
    [
        ((), FREE, None, Phase.WAITING, []),
        ((DRAIN,), DRAINED, None, Phase.DRAINING, []),
        ((DRAIN,), FREE, None, Phase.WAITING, []),  # it ended before the request
        ((DRAIN, COMMAND), DRAINED, "rerun", Phase.DRAINING, []),
        ((DRAIN, COMMAND), FREE, "rerun", Phase.WAITING, []),  # it was undrained by hand
        ((DRAIN, COMMAND), DRAINED, "skip", Phase.RETURNING, ["command_skipped"]),
        ((DRAIN, COMMAND), FREE, "skip", Phase.JOINING, ["command_skipped", "undrain"]),
        ((DRAIN, COMMAND, ended(1)), DRAINED, "rerun", Phase.DRAINING, []),
        ((DRAIN, COMMAND, ended(1)), DRAINED, "skip", Phase.RETURNING, ["command_skipped"]),
        ((DRAIN, COMMAND, ended(0)), DRAINED, None, Phase.RETURNING, []),
        ((DRAIN, COMMAND, ended(0)), DRAINED, "rerun", Phase.DRAINING, []),
        ((DRAIN, COMMAND, ended(0)), FREE, None, Phase.JOINING, []),
        ((DRAIN, COMMAND, ended(0), UNDRAIN), FREE, None, Phase.JOINING, []),
        ((DRAIN, COMMAND, ended(0), UNDRAIN), DRAINED, None, Phase.RETURNING, []),
        ((DRAIN, COMMAND, ended(0), UNDRAIN, DONE), FREE, None, Phase.DONE, []),
        ((DRAIN, {"event": "drain_held", "server": "s1"}), FREE, None, Phase.WAITING, []),
        ((DRAIN, {"event": "drain_cancelled", "server": "s1"}), FREE, None, Phase.WAITING, []),
    ],
)
def test_a_run_goes_on_exactly_where_it_was(
    tmp_path: Path,
    events: tuple[dict[str, Any], ...],
    found: ServerFacts,
    choice: str | None,
    phase: Phase,
    more: list[str],
) -> None:
    assert resume(written(tmp_path, *events), found, choice) == (phase, more)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ((DRAIN, COMMAND), "the command for s1 began and did not end"),
        ((DRAIN, COMMAND, ended(7)), r"the command for s1 failed \(7\)"),
    ],
)
def test_only_a_person_decides_about_a_command_that_did_not_succeed(
    tmp_path: Path, events: tuple[dict[str, Any], ...], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        resume(written(tmp_path, *events), DRAINED)


def test_a_drain_that_is_somebody_elses_now_is_refused(tmp_path: Path) -> None:
    other = ServerFacts(ServerState.DRAINING, request=DrainRequest("bob@ctl", 9.0, "disk"))
    with pytest.raises(BrigadeError, match="the drain of s1 was requested meanwhile by bob@ctl"):
        resume(written(tmp_path, DRAIN, COMMAND, ended(0)), other)


def test_after_a_resumption_only_reports_after_the_command_count(tmp_path: Path) -> None:
    path = written(tmp_path, DRAIN, COMMAND, ended(0))
    history = read_journal(path)
    made = Resumption(path, history, options_of(history.begin), None)
    turn = made.turns(FleetFacts({"s1": DRAINED}), Journal(path, lambda: 1.0), 50.0)[0]
    assert (turn.before, turn.after, turn.reports) == (Mark("boot", 7), Mark("boot", 9), set())
    assert turn.request == OURS


def test_the_journal_of_a_whole_run_replays_to_its_end(tmp_path: Path) -> None:
    made = case(tmp_path, 3)
    made.go()
    history = read_journal(made.path)
    assert history.ended
    assert {one.phase for one in history.servers.values()} == {Phase.DONE}
    assert history.open_servers() == {}


def test_every_prefix_of_a_journal_resumes_to_the_same_end(tmp_path: Path) -> None:
    """Kill the run after any line, also before what that line announces was done."""
    whole = case(tmp_path / "whole", 2)
    whole.world.journal_path.write_bytes(b"")
    whole.journal.write("begin", **OPTIONS.as_values())
    whole.go()
    lines = whole.path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 2 * 5
    for length in range(1, len(lines)):
        folder = tmp_path / str(length)
        folder.mkdir()
        path = folder / "journal.jsonl"
        path.write_bytes(b"".join(lines[:length]))
        history = read_journal(path)
        made = Resumption(path, history, options_of(history.begin), session.RERUN)
        made.check()
        resumed = case(folder, 2)
        for name, one in history.servers.items():
            server = resumed.world.servers[name]
            last = read_journal(path).servers[name].phase
            if last in (Phase.COMMAND, Phase.RETURNING):
                server.state, server.request = ServerState.DRAINING, one.request
                server.drained_at = resumed.world.now
        facts = resumed.world.look()
        resumed.run.turns = made.turns(facts, resumed.journal, resumed.world.now)
        outcome = resumed.go()
        assert outcome.reason == "", length
        assert {turn.phase for turn in outcome.turns} == {Phase.DONE}
        assert all(server.request is None for server in resumed.world.servers.values()), length


def test_the_newest_unfinished_journal_of_this_store_is_found(tmp_path: Path) -> None:
    assert session.newest_unfinished(tmp_path, "file:/store") is None
    assert session.new_journal(tmp_path) == tmp_path / "000001.jsonl"
    (tmp_path / "old").mkdir()
    written(tmp_path / "old", DRAIN).rename(tmp_path / "000001.jsonl")
    written(tmp_path / "old", DRAIN).rename(tmp_path / "000002.jsonl")
    other = (tmp_path / "000002.jsonl").read_text().replace("/store", "/another")
    (tmp_path / "000003.jsonl").write_text(other)
    found = session.newest_unfinished(tmp_path, "file:/store")
    assert found == tmp_path / "000002.jsonl"
    assert session.new_journal(tmp_path) == tmp_path / "000004.jsonl"
    with found.open("a") as file:
        file.write('{"event":"end","seconds":4.0}\n')
    assert session.newest_unfinished(tmp_path, "file:/store") is None


def test_a_new_run_is_refused_while_an_earlier_one_has_left_a_server_drained(
    tmp_path: Path,
) -> None:
    written(tmp_path, DRAIN, COMMAND)
    with pytest.raises(BrigadeError, match=r"stopped with s1 drained.*--resume.*lbctl undrain s1"):
        session.check_no_leftover(tmp_path, "file:/store", {"s1": OURS})
    session.check_no_leftover(tmp_path, "file:/store", {})


def test_two_runs_on_one_store_do_not_go_on_at_once(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    url = f"file:{tmp_path}/store"
    with (
        session.only_run(url),
        pytest.raises(BrigadeError, match=f"another lbctl rolling .*process {os.getpid()}"),
        session.only_run(url),
    ):
        pass
    with session.only_run(url):
        pass
