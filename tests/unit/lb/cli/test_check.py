"""`lbctl check`: all mistakes, wrong kinds of files, and what it finds on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lb.cli.main as cli

AGENT = """
name = "s1"
interface = "lo9"
dip = "10.0.0.1"
store = "https://10.0.0.9:6081"
token_file = "token"
ca_file = "ca.crt"
on_ready = ["./announce"]
"""
CONTROL = """
[[server]]
name = "s1"
dip = "10.0.0.1"
[[pool]]
name = "web"
"""


def check(path: Path, text: str | bytes) -> int:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return cli.run(["check", str(path)])


def faults(error: str, path: Path) -> list[str]:
    return [line.removeprefix(f"lbctl: error: {path}: ") for line in error.splitlines()]


def test_every_mistake_has_its_line_the_useful_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    assert check(path, CONTROL.replace("[[server]]", "[[servers]]") + "buckets = 3\ncap = '1'") == 2
    lines = faults(capsys.readouterr().err, path)
    assert lines[0].startswith("servers: unknown key; did you mean 'server'?")
    assert [line.partition(":")[0] for line in lines[1:]] == ["pool[1].buckets", "pool[1].cap"]
    rules = CONTROL + 'prometheus_url = "http://10.0.0.8"\ncap = 0.5\n'
    assert check(path, rules) == 2
    assert len(faults(capsys.readouterr().err, path)) == 2


def test_mistakes_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONTROL + "cap = 0.5\n")
    assert cli.run(["check", str(path), "--json"]) == 2
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["ok"], outcome["kind"], len(outcome["faults"])) == (False, "control", 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "it has no keys"),
        (
            "[project]\nname_of = 1\n[build-system]\na=1\n[tool]\nb=1\n",
            "its keys are build-system,",
        ),
        ("-----BEGIN CERTIFICATE-----\n", "is it a settings file of agent or controller?"),
        ('{"name": 1}', "is it a settings file of agent or controller?"),
    ],
)
def test_another_kind_of_file_is_named_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    path = tmp_path / "other"
    assert check(path, text) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text", "line"),
    [
        (["up", "--dry-run"], CONTROL, "is the file of a controller; name an agent's by --config"),
        (["servers"], AGENT, "is the file of an agent; name a controller's by --config"),
    ],
)
def test_the_file_of_the_other_program_is_named_as_such(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
    line: str,
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text)
    assert cli.run([*words, "--config", str(path)]) == 2
    assert line in capsys.readouterr().err


def test_what_this_machine_does_not_have_is_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path / "a.toml", AGENT) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert [note.split()[1] for note in notes] == [
        "interface:",
        "token_file:",
        "ca_file:",
        "on_ready:",
    ]


def test_what_up_would_refuse_here_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, hook = tmp_path / "a.toml", tmp_path / "announce"
    for name in ("token", "ca.crt", "announce"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o644)
    assert check(path, AGENT.replace("./announce", str(hook))) == 2
    token, authority, announce = faults(capsys.readouterr().err, path)
    assert token.endswith(f"open to others (mode 0644): chmod 600 {tmp_path / 'token'}")
    assert "ca.crt does not hold a certificate in PEM form" in authority
    assert announce.endswith(f"is not executable: chmod +x {hook}")


def test_a_controllers_files_are_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    for name in ("token", "crt", "key"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    listen = (
        '[listen]\naddress = "10.0.0.9"\nport = 6081\ntoken_file = "token"\n'
        'certificate = "crt"\nprivate_key = "key"\n'
    )
    assert check(path, CONTROL + listen) == 2
    (line,) = faults(capsys.readouterr().err, path)
    assert line.startswith("listen.certificate: ")
    (tmp_path / "token").chmod(0o604)
    assert check(path, CONTROL + listen) == 2
    assert "listen.token_file: " in capsys.readouterr().err
