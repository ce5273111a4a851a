"""`lbctl rolling` with a real controller, a real store and simulated agents."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lb.cli.main as cli
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import ExitCode
from controlplane.domain.objects import ServiceHealth
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

SERVICE = {
    "name": "http", "vip": "192.0.2.1", "protocol": "tcp", "port": 80, "pool": "web",
    "check": {"type": "tcp", "interval_seconds": 0.2, "timeout_seconds": 0.1, "fall": 1},
}  # fmt: skip
WELL = {"http": ServiceHealth(healthy=True)}


@pytest.fixture
def control(fleet: Fleet) -> Iterator[Path]:
    """The settings file of a fleet of four that is up, with a controller that leads."""
    fleet.up(4, service=[SERVICE])
    for agent in fleet.agents.values():
        agent.checks = WELL
    path = fleet.write_settings(4)
    with fleet.store.lead("test"):
        yield path


def rolling(control: Path, *words: str, command: tuple[str, ...] = ("true",)) -> int:
    tail = ["--", *command] if command else []
    return cli.run(["rolling", "--config", str(control), *words, *tail])


def journal_of(control: Path) -> Path:
    (found,) = (control.parent / "rolling").glob("*.jsonl")
    return found


def events(control: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal_of(control).read_text().splitlines()]


def writes(control: Path, *words: str) -> tuple[str, ...]:
    """Return a command that appends the server's name to a file, and does more."""
    order = control.parent / "order"
    return ("sh", "-c", f"echo {{name}} {{dip}} >> {order}; {' '.join(words) or 'true'}")


def order(control: Path) -> list[str]:
    path = control.parent / "order"
    return path.read_text().splitlines() if path.exists() else []


def test_all_servers_in_turn_and_the_last_line(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rolling(control, command=writes(control)) == 0
    assert order(control) == [f"s{n} 10.1.0.{n}" for n in (1, 2, 3, 4)]
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith("4 servers, broken connections not measured, ")
    assert any(line.startswith("not probed through the tunnel: ") for line in out)
    assert "s1 has 0 connections; they stay, new ones go elsewhere" in out, "the first one's plan"
    assert not any(line.startswith("s2 has ") for line in out)
    assert fleet.store.drain_requests() == {}
    assert set(fleet.states().values()) == {"active"}
    assert events(control)[-1]["event"] == "end"


def test_two_at_once_by_the_order_given_and_as_json(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--servers", "s4,s2", "--at-once", "2", "--json", "--reason", "kernel")
    seen: list[DrainRequest] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.is_set():
            seen.extend(fleet.store.drain_requests().values())
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    assert rolling(control, *words, command=writes(control)) == 0
    watching.set()
    thread.join()
    assert sorted(order(control)) == ["s2 10.1.0.2", "s4 10.1.0.4"]
    lines = capsys.readouterr().out.splitlines()
    printed = [json.loads(line) for line in lines if line.startswith("{")]  # the rest: a log
    assert printed == events(control)
    assert [e["server"] for e in printed if e["event"] == "drain"] == ["s4", "s2"]
    assert {request.reason for request in seen} == {"rolling: kernel"}


def test_a_failure_stops_it_and_resume_goes_on_with_a_choice(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mended = control.parent / "mended"
    command = writes(control, f'[ {{name}} != s2 ] || [ -e "{mended}" ]')
    assert rolling(control, command=command) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        "s2: the command failed with exit code 1. Now: s2 is drained, its command failed" in error
    )
    assert "1 done, 2 not begun" in error
    assert f"lbctl rolling --resume --journal {journal_of(control)}" in error
    assert "--rerun (or --skip)" in error
    assert "to end it: lbctl undrain s2" in error
    assert set(fleet.store.drain_requests()) == {"s2"}
    assert len(order(control)) == 2

    assert rolling(control, command=command) == ExitCode.REFUSED
    assert "an earlier run stopped with s2 drained" in capsys.readouterr().err
    assert rolling(control, "--resume", command=()) == ExitCode.USAGE
    assert "the command for s2 failed (1)" in capsys.readouterr().err
    mended.touch()
    assert rolling(control, "--resume", "--rerun", command=()) == 0
    assert [line.split()[0] for line in order(control)] == ["s1", "s2", "s2", "s3", "s4"]
    assert "4 servers, " in capsys.readouterr().out
    assert rolling(control, "--resume", command=()) == ExitCode.USAGE
    assert "can be resumed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "command", "code", "text"),
    [
        (("--servers", "s9"), ("true",), 2, "no server is called 's9'"),
        (("--servers", ","), ("true",), 2, "--servers has no name"),
        (("--pool", "wbe"), ("true",), 2, "no pool is called 'wbe'; did you mean 'web'?"),
        ((), (), 2, "there is no command"),
        ((), ("no-such-program",), 2, "does not have the command no-such-program"),
        (("--at-once", "3"), ("true",), 3, "at most 2 can be drained at once: --at-once 2"),
        (("--at-once", "0"), ("true",), 2, "--at-once"),
        (("--rerun",), ("true",), 2, "need --resume"),
        (("--resume",), ("true",), 2, "give neither"),
        (("--resume",), (), 2, "can be resumed"),
        (("--wait-ready", "soon"), ("true",), 2, "'soon' is not a time as 90s, 10m or 2h"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_changed(
    fleet: Fleet,
    control: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    command: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    assert rolling(control, *words, command=command) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert fleet.store.drain_requests() == {}
    assert not (control.parent / "rolling").exists()


def test_a_pool_that_cannot_spare_a_server_is_left_alone(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("s3", "s4"):
        fleet.store.request_drain(name, requested=True)
    wait_until(lambda: len(fleet.current()) == 2, "two are drained")
    assert rolling(control) == ExitCode.REFUSED
    assert "so none can be drained: bring servers back" in capsys.readouterr().err
    assert set(fleet.store.drain_requests()) == {"s3", "s4"}


def test_a_server_that_somebody_drained_is_left_out_and_stays_drained(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = DrainRequest("bob@ctl", 7.0, "new disk")
    fleet.store.request_drain("s4", requested=True, request=disk)
    wait_until(lambda: len(fleet.current()) == 3, "it is drained")
    wait_until(fleet.calm, "settled")
    assert rolling(control, "--servers", "s4", command=writes(control)) == ExitCode.REFUSED
    assert "s4 is drained already, requested by bob@ctl" in capsys.readouterr().err
    assert rolling(control, command=writes(control)) == 0
    out = capsys.readouterr().out
    assert "left out: s4 is drained already, requested by bob@ctl" in out
    assert len(order(control)) == 3
    assert fleet.store.drain_requests() == {"s4": disk}


def test_without_a_controller_nothing_begins(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.store.file.store.FileStore.leader", lambda _: None)
    assert rolling(control) == ExitCode.UNAVAILABLE
    assert "start lbctl control" in capsys.readouterr().err


def test_dry_run_shows_order_moves_and_guards(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.agents["s2"].connections = 7
    wait_until(lambda: fleet.store.reports()["s2"].connections == 7, "it reports them")
    assert rolling(control, "--servers", "s2,s1", "--dry-run", command=("ssh-{name}",)) == 2
    assert "ssh-s" in capsys.readouterr().err
    assert rolling(control, "--servers", "s2,s1", "--dry-run", command=("echo", "{dip}")) == 0
    lines = capsys.readouterr().out.splitlines()
    out = lines[lines.index("s2 has 7 connections; they stay, new ones go elsewhere") :]
    assert out[0] == "s2 has 7 connections; they stay, new ones go elsewhere"
    assert "64 buckets move, 3 of 4 servers stay active (2 needed)" in out[1]
    assert "the connections of 64 buckets are passed on, up to 25% of the pool's" in out[2]
    assert out[3:5] == ["guards of s2: allowed", "then: echo 10.1.0.2"]
    assert fleet.store.drain_requests() == {}
    assert not (control.parent / "rolling").exists()


def test_a_server_that_gets_silent_elsewhere_stops_it(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = writes(control, "sleep 3")

    def end_it() -> None:
        wait_until(lambda: order(control) != [], "the first command runs", 60.0)
        fleet.agents["s4"].end()

    thread = threading.Thread(target=end_it)
    thread.start()
    assert rolling(control, command=command) == ExitCode.FAILED
    thread.join()
    assert "s4: its agent is silent" in capsys.readouterr().err
    assert len(order(control)) <= 2


TWO = ("--servers", "s1,s2")
SOURCE = "import lb.cli.main as m; m.main()"


def start(control: Path, command: tuple[str, ...], terminal: int | None = None) -> Any:
    out = subprocess.PIPE if terminal is None else terminal
    return subprocess.Popen(
        [sys.executable, "-c", SOURCE, "rolling", *TWO, "--config", str(control), "--", *command],
        stdin=terminal if terminal is not None else subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_after_the_command_with_a_journal_that_is_right(
    fleet: Fleet, control: Path, number: signal.Signals
) -> None:
    process = start(control, writes(control, "sleep 1"))
    wait_until(lambda: order(control) != [], "the first command runs", 20.0)
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"{number.name}: it stops once the command for s1 has ended" in out
    assert error.count("\n") == 1
    assert "interrupted. Now: s1 is drained, its command has succeeded" in error
    assert "to end it: lbctl undrain s1" in error
    assert [e["event"] for e in events(control)] == [
        "begin", "found", "drain", "command", "command_ended", "stopped",
    ]  # fmt: skip
    assert rolling(control, "--resume", command=()) == 0
    assert [line.split()[0] for line in order(control)] == ["s1", "s2"]
    assert fleet.store.drain_requests() == {}


def test_a_second_signal_ends_it_at_once_and_the_command_is_an_open_question(
    fleet: Fleet, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(control, writes(control, "sleep 60"))
    wait_until(lambda: order(control) != [], "the first command runs", 20.0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two signals of one moment are one
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=5)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "the command for s1 was sent SIGTERM" in error
    assert events(control)[-1]["event"] == "command"
    assert rolling(control, "--resume", command=()) == ExitCode.USAGE
    assert "the command for s1 began and did not end" in capsys.readouterr().err
    assert set(fleet.store.drain_requests()) == {"s1"}


def test_a_run_that_is_killed_resumes(fleet: Fleet, control: Path) -> None:
    process = start(control, writes(control, "sleep 0.3"))
    wait_until(lambda: len(order(control)) == 2, "the second command runs", 60.0)
    process.kill()
    process.communicate()
    assert rolling(control, "--resume", "--skip", command=()) == 0
    assert [line.split()[0] for line in order(control)] == ["s1", "s2"]
    assert fleet.store.drain_requests() == {}


def test_on_a_terminal_the_drain_is_cancelled_if_the_operator_agrees(
    fleet: Fleet, control: Path
) -> None:
    fleet.agents["s1"].connections = 3
    ours, theirs = pty.openpty()
    process = start(control, writes(control), theirs)
    wait_until(lambda: set(fleet.store.drain_requests()) == {"s1"}, "drained", 20.0)
    wait_until(lambda: "s1" not in fleet.current(), "it waits for connections")
    process.send_signal(signal.SIGINT)
    shown = ""
    while "cancel the drain of s1 now? [Y/n]" not in shown:
        assert select.select([ours], [], [], 20.0)[0], shown
        shown += os.read(ours, 4096).decode()
    os.write(ours, b"y\n")
    assert process.wait(20) == ExitCode.INTERRUPTED
    shown += os.read(ours, 4096).decode()
    assert "draining" in shown
    assert "interrupted. Now: 0 done, 2 not begun. To go on: lbctl rolling --resume" in shown
    assert "to end it" not in shown
    assert fleet.store.drain_requests() == {}
    assert order(control) == []
    for end in (ours, theirs):
        os.close(end)
