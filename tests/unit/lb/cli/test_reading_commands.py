"""The commands that only read: their output as text and as JSON, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lb.cli.main as cli
from controlplane.documents.controller import encode_controller
from controlplane.domain.controller_state import ControllerState
from controlplane.domain.objects import ServerState
from controlplane.store.state_dir import StateDir
from lb.agent.config import AgentConfig, load_agent_config
from lb.agent.facts import SharedFacts
from lb.agent.machine.lock import interface_lock
from lb.agent.report.status_file import status_of, write_status
from lb.cli._table_summary import summarise
from lb.cli.status import lines_of
from lb.cli.table import transitions
from tests.unit.lb.agent.fakes import BUCKETS, KEY, a_cluster, a_table, encoded

CONTROL = """
[[server]]
name = "s1"
dip = "10.0.0.1"
[[pool]]
name = "web"
[[service]]
name = "web"
vip = "192.0.2.10"
protocol = "tcp"
port = 80
pool = "web"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'name = "s1"\ninterface = "t{uuid.uuid4().hex[:10]}"\ndip = "10.0.0.1"\n'
        'state_dir = "state"\nrun_dir = "run"\nbpffs = "bpf"\n'
    )
    return path


@pytest.fixture
def settings(config: Path) -> AgentConfig:
    return load_agent_config(config)


@pytest.fixture
def documents(settings: AgentConfig) -> None:
    state_dir = StateDir(settings.state_dir)
    state_dir.save_document("cluster", encoded(a_cluster(3, states={2: ServerState.DRAINING})))
    state_dir.save_document("table/web", encoded(a_table(5, [1, 2], 3)))
    state_dir.save_key("web-key", KEY)


def run(*words: str) -> int:
    return cli.run(list(words))


def test_check_detects_the_kind_of_a_file(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = tmp_path / "control.toml"
    control.write_text(CONTROL)
    assert run("check", str(config), "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "agent"
    assert run("check", str(control)) == 0
    assert "a controller" in capsys.readouterr().out
    control.write_text(CONTROL.replace("10.0.0.1", "10.0.0.1/8"))
    assert run("check", str(control)) == 2
    assert "dip" in capsys.readouterr().err
    config.write_text("nam = 1\n")
    assert run("check", str(config)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "nam: unknown key; did you mean 'name'?" in lines[0], "and name itself is not missing"
    assert [line.partition("agent.toml: ")[2] for line in lines[1:]] == [
        "interface: is required",
        "dip: is required",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("192.0.2.10", "192.0.2.10/24", "service[1].vip: must not have bits set beyond its prefix"),
        ("192.0.2.10", "10.0.0.0/8", "service[1].vip: must not cover a DIP, 10.0.0.1 is server"),
        ("192.0.2.10", "fe80::1", "service[1].vip: must be an address that clients can"),
        ("port = 80", 'port = "http"', "service[1].port: must be 1 to 65535 without quotes, or"),
        (
            "port = 80",
            'port = "any"\ncheck = { type = "tcp" }',
            'service[1].check.port: is required with port = "any"',
        ),
    ],
)
def test_check_refuses_an_invalid_service_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: str
) -> None:
    control = tmp_path / "control.toml"
    control.write_text(CONTROL.replace(old, new))
    assert run("check", str(control)) == 2
    error = capsys.readouterr().err
    assert f"{control}: {line}" in error
    assert error.count("\n") == 1


def test_check_notes_that_no_server_can_be_declared_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = tmp_path / "control.toml"
    control.write_text(CONTROL)
    assert run("check", str(control)) == 0
    assert "note: probers: none, so no server is ever declared down" in capsys.readouterr().out
    control.write_text('probers = ["10.0.0.9"]\n' + CONTROL.replace("192.0.2.10", "2001:db8::1"))
    assert run("check", str(control), "--json") == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "every VIP is IPv6, so probes need an IPv6 address" in note
    control.write_text('probers = ["10.0.0.9"]\n' + CONTROL)
    assert run("check", str(control)) == 0
    assert "note:" not in capsys.readouterr().out


@pytest.mark.usefixtures("documents")
def test_where_for_programs_and_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["where", "tcp", "198.51.100.7:40000", "192.0.2.10:80", "--config", str(config)]
    assert run(*words, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bucket"] == 0xFA43B87DE3E4A666 % BUCKETS
    assert (answer["verdict"], answer["source_port"]) == ("pass_to_self", 64067)
    assert [hop["server"] for hop in answer["visits"]] == ["s1", "s2"]
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert "s1 (10.0.0.1, active) > s2 (10.0.0.2, draining)" in text
    assert "redirector decides" in text
    assert run("where", "tcp", "nonsense", "192.0.2.10:80", "--config", str(config)) == 2


@pytest.mark.usefixtures("documents")
def test_table_for_programs_and_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("table", "--config", str(config), "--json") == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert (table["generation"], table["cluster_generation"]) == (5, 3)
    assert table["transitions"] == BUCKETS
    assert [row["current"] for row in table["rows"]] == [BUCKETS, 0]
    assert run("table", "web", "--config", str(config)) == 0
    text = capsys.readouterr().out
    assert "100.0%" in text
    assert "█" in text
    assert run("table", "dns", "--config", str(config)) == 2
    assert "there are: web" in capsys.readouterr().err


@pytest.mark.usefixtures("documents")
def test_a_table_says_how_long_ago_a_bucket_moved(
    config: Path, settings: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The controller's time at its last copy, and the time since then."""
    state_dir = StateDir(settings.state_dir)
    moved = replace(a_table(6, [1, 2], 3), moved_at=np.full(BUCKETS, 5000, np.uint32))
    state_dir.save_document("table/web", encoded(moved))
    assert run("table", "--config", str(config)) == 0
    assert "last move at an unknown time" in capsys.readouterr().out
    state_dir.save_document("controller", encode_controller(ControllerState(5040.0), 1))
    saved = settings.state_dir / "documents" / "controller.json"
    os.utime(saved, (saved.stat().st_atime, saved.stat().st_mtime - 60))
    assert run("table", "--config", str(config)) == 0
    assert re.search(r"last move 10\d s ago", capsys.readouterr().out)


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_counters_are_not_watched_without_a_pause(
    config: Path, interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("counters", "--watch", "--interval", interval, "--config", str(config)) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["table", "status", "counters"])
def test_without_data_there_is_one_line_with_a_remedy(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--config", str(config)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lbctl up" in error


def test_an_agent_that_has_no_status_yet_is_starting(
    config: Path, settings: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with interface_lock(settings.interface):
        assert run("status", "--config", str(config)) == 1
    assert f"process {os.getpid()} is starting" in capsys.readouterr().err


def test_status_shows_whether_the_agent_runs(
    config: Path, settings: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = SharedFacts(0.0)
    facts.update(ready=True, attached=True, xdp_mode="native", generations={"table/web": 5})
    facts.set_trouble("store", "the store [bold]is away")
    write_status(settings.run_dir, status_of(facts.current, settings, time.time()))
    assert run("status", "--config", str(config), "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["agent_running"], status["ready"]) == (False, True)
    assert run("status", "--config", str(config)) == 0
    text = capsys.readouterr().out
    assert "NOT RUNNING" in text
    assert "the store [bold]is away" in text
    with interface_lock(settings.interface):
        assert run("status", "--config", str(config)) == 0
    assert "running, process" in capsys.readouterr().out


GONE = {"agent_running": False, "agent_pid": None}


@pytest.mark.parametrize(
    ("pid", "now", "text"),
    [
        (7, 104.0, "running, process 7"),
        (8, 109.0, "STARTING, process 8; the lines below are of the agent before, 9 s ago"),
        (7, 109.0, "process 7 DOES NOTHING, last status 9 s ago; the lines below are old"),
    ],
)
def test_status_shows_that_it_is_not_of_the_agent_that_runs_now(
    settings: AgentConfig, pid: int, now: float, text: str
) -> None:
    status = status_of(SharedFacts(0.0).current, settings, 100.0)
    shown = {**status, "pid": 7, "agent_running": True, "agent_pid": pid}
    assert dict(lines_of(shown, now))["agent"] == text


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "the controller lists it as active"),
        (
            {"listed_dip": "10.0.0.7"},
            (
                "THIS MACHINE IS IGNORED: the controller lists the machine with DIP 10.0.0.7 "
                "as s1, active"
            ),
        ),
        (
            {"twin": True},
            (
                "THIS MACHINE IS IGNORED: the controller lists another machine that reports "
                "under this name as s1, active"
            ),
        ),
    ],
)
def test_status_shows_whose_state_the_controller_lists(
    settings: AgentConfig, facts: dict[str, object], text: str
) -> None:
    known = SharedFacts(0.0)
    known.update(state="active", **facts)
    status = {**status_of(known.current, settings, 1.0), **GONE}
    assert dict(lines_of(status, 1.0))["state"] == f"not ready for traffic; {text}"


@pytest.mark.parametrize(
    ("of_all", "text"),
    [
        (False, "lowered by 40 bytes for the encapsulation"),
        (
            True,
            (
                "lowered by 40 bytes for the encapsulation, "
                "also for this server's own connections: there are many VIPs"
            ),
        ),
    ],
)
def test_status_shows_whose_mss_is_lowered(settings: AgentConfig, of_all: bool, text: str) -> None:
    facts = SharedFacts(0.0)
    facts.update(mss_overhead=40, mss_of_all=of_all)
    shown = dict(lines_of({**status_of(facts.current, settings, 1.0), **GONE}, 1.0))
    assert shown["MSS"] == text


def test_status_shows_connections_that_are_cut_off(settings: AgentConfig) -> None:
    facts = SharedFacts(0.0)

    def shown() -> dict[str, str]:
        status = status_of(facts.current, settings, 1.0)
        return dict(lines_of({**json.loads(json.dumps(status)), **GONE}, 1.0))

    facts.update(strays_total={("web", "forced"): 0})
    assert not {"STRAYS", "cut off"} & shown().keys()
    facts.update(
        strays={("dns", "unknown"): 1, ("web", "forced"): 3, ("web", "lagging"): 1},
        strays_total={("web", "forced"): 9},
    )
    assert shown()["STRAYS"] == (
        "5 connections that no table leads to (web: 3 forced, 1 lagging; dns: 1 unknown)"
    )
    assert shown()["cut off"] == "9 connections since the agent started (web: 9 forced)"


def test_a_table_is_summarised_by_current_and_later_hops() -> None:
    cluster = a_cluster(1, indices=(1, 2, 3))
    table = a_table(1, [0, 0])
    chains = np.array(table.chains)
    chains[:100] = [1, 0]
    chains[100:200] = [2, 1]
    chains[200:250] = [9, 2]
    summary = summarise(replace(table, chains=chains), cluster)
    assert (summary.empty, summary.transitions) == (6, 150)
    assert summary.lengths == (100, 150)
    found = {row.server: (row.current, row.later) for row in summary.rows}
    assert found == {"s1": (100, 100), "s2": (100, 50), "s3": (0, 0), "index 9": (50, 0)}
    assert sum(row.share for row in summary.rows) == pytest.approx(250 / 256)


def test_a_table_of_depth_four_is_shown_with_the_lengths_of_its_chains() -> None:
    cluster = a_cluster(1, indices=(1, 2, 3, 4))
    table = a_table(1, [1, 0])
    chains = np.tile(np.array([1, 0, 0, 0], np.uint16), (table.buckets, 1))
    chains[:10] = [2, 1, 0, 0]
    chains[10:30] = [3, 2, 1, 0]
    chains[30:70] = [4, 3, 2, 1]
    summary = summarise(replace(table, chains=chains), cluster)
    assert (summary.depth, summary.transitions) == (4, 70)
    assert summary.lengths == (table.buckets - 70, 10, 20, 40)
    assert transitions(summary) == "70 in transition (chains: 10 of 2, 20 of 3, 40 of 4)"
    found = {row.server: (row.current, row.later) for row in summary.rows}
    assert found["s1"] == (table.buckets - 70, 70)
    assert (found["s3"], found["s4"]) == ((20, 40), (40, 0))
    at_rest = summarise(replace(table, chains=chains[70:]), cluster)
    assert transitions(at_rest) == "0 in transition"
