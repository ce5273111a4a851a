"""`lbctl up --dry-run` and `lbctl demo`: their exit codes, and what they check first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import lb.cli.main as cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text('name = "s1"\ninterface = "eth0"\ndip = "10.0.0.1"\n')
    return path


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["attach the forwarder", "warn: MTU"], 0),
        (["refuse: eth0 belongs to another agent", "attach the forwarder"], 3),
    ],
)
def test_a_dry_run_that_would_be_refused_exits_3(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: Sequence[str],
    code: int,
) -> None:
    monkeypatch.setattr("lb.dry_run.plan_up", lambda _: iter(lines))
    assert cli.run(["up", "--dry-run", "--config", str(config)]) == code
    assert capsys.readouterr().out.splitlines() == lines


def test_a_demo_that_could_not_write_its_results_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begun(*_: object) -> None:
        pytest.fail("the demo began")

    monkeypatch.setattr("lb.demo.runner.run", begun)
    missing = tmp_path / "none" / "results.json"
    assert cli.run(["demo", "--json", str(missing)]) == 1
    assert f"cannot write {missing}: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["trace", "down", "up --dry-run"])
def test_without_root_the_command_itself_is_named(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.run([*command.split(), "--config", str(config)]) == 1
    name = command.split(maxsplit=1)[0]
    assert f"lbctl {name} needs root: sudo lbctl {name}" in capsys.readouterr().err


def test_pins_that_may_not_be_read_need_root(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(_: Path) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("lb.dataplane.load.bpf_syscall.obj_get", denied)
    assert cli.run(["counters", "--config", str(config)]) == 1
    error = capsys.readouterr().err
    assert "reading the pins needs root: run the same command with sudo" in error
    assert "lbctl up" not in error
