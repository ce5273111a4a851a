"""The operator's command: what is replaced, and how it ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError, UsageError
from controlplane.operator.rolling.command import (
    Commands,
    check_command,
    is_the_same_for_all,
    words_for,
)
from controlplane.operator.rolling.run import CommandEnd
from netns.polling import wait_until


def commands(folder: Path, *command: str, limit: float = 30.0) -> Commands:
    return Commands(command, folder / "out", limit, time.monotonic)


def code_of(made: Commands, name: str = "s1") -> int:
    found: list[int] = []

    def over() -> bool:
        code = made.ended(name)
        found.extend([] if code is None else [code])
        return bool(found)

    wait_until(over, "the command ends", 30.0)
    return found[0]


def test_names_and_dips_are_replaced_and_other_braces_stay() -> None:
    command = ["ssh", "root@{dip}", "echo {name} ${HOME} {} {x} {{name}}", "{}"]
    assert words_for(command, "s1", "10.0.0.1") == [
        "ssh", "root@10.0.0.1", "echo s1 ${HOME} {} {x} {s1}", "{}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "meant"), [("nam", "name"), ("names", "name"), ("ip", "dip"), ("dipp", "dip")]
)
def test_a_misspelled_name_in_braces_is_refused(word: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"\{{{word}\}} would stay .* \{{{meant}\}}\?"):
        check_command(["true", f"root@{{{word}}}", "{name}"], [("s1", "10.0.0.1")])


def test_braces_of_other_programs_are_not_taken_for_a_mistake() -> None:
    check_command(["true", "{print}", "{}", "${HOME}", "{a,b}", "{host}"], [("s1", "10.0.0.1")])


def test_a_command_without_a_name_is_the_same_for_all() -> None:
    assert is_the_same_for_all(["sh", "-c", "reboot {host}"])
    assert not is_the_same_for_all(["ssh", "root@{dip}", "reboot"])


def test_there_is_no_shell_and_output_is_kept_by_server(tmp_path: Path) -> None:
    made = commands(tmp_path, "echo", "{name}; exit 7 && $(reboot)")
    made.start("s1", "10.0.0.1")
    made.start("s2", "10.0.0.2")
    assert [code_of(made, "s1"), code_of(made, "s2")] == [0, 0]
    assert made.tail("s2") == ["s2; exit 7 && $(reboot)"]
    assert made.output_file("s1").read_text() == "s1; exit 7 && $(reboot)\n"


def test_the_exit_code_and_the_last_lines_are_known(tmp_path: Path) -> None:
    made = commands(tmp_path, "sh", "-c", "seq 9; echo broken >&2; exit 3")
    made.start("s1", "10.0.0.1")
    assert code_of(made) == 3
    assert made.tail("s1") == ["6", "7", "8", "9", "broken"]


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    made = commands(tmp_path, "sh", "-c", f"sleep 60 & echo $! > {marker}; wait", limit=0.3)
    made.start("s1", "10.0.0.1")
    assert code_of(made) == CommandEnd.TIMEOUT
    child = int(marker.read_text())
    wait_until(
        lambda: (
            not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text()
        ),
        "its child has ended, too",
    )


def test_a_command_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.operator.rolling.command.END_SECONDS", 0.2)
    made = commands(tmp_path, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", limit=0.3)
    made.start("s1", "10.0.0.1")
    assert code_of(made) == CommandEnd.TIMEOUT


def test_a_child_that_keeps_the_output_open_does_not_hold_the_run(tmp_path: Path) -> None:
    made = commands(tmp_path, "sh", "-c", "sleep 20 & exit 0")
    begun = time.monotonic()
    made.start("s1", "10.0.0.1")
    assert code_of(made) == 0
    assert time.monotonic() - begun < 10


def test_an_abandoned_command_gets_sigterm(tmp_path: Path) -> None:
    made = commands(tmp_path, "sleep", "60")
    made.start("s1", "10.0.0.1")
    assert made.abandon() == ["s1"]
    assert code_of(made) == -15


def test_a_program_that_does_not_exist_is_found_before_anything_is_done(tmp_path: Path) -> None:
    servers = [("s1", "10.0.0.1"), ("s2", "10.0.0.2")]
    check_command(["true", "{name}"], servers)
    with pytest.raises(UsageError, match="does not have the command nosuchprogram"):
        check_command(["nosuchprogram"], servers)
    with pytest.raises(UsageError, match="does not have the command /opt/s"):
        check_command(["/opt/{name}"], servers)
    with pytest.raises(UsageError, match="there is no command"):
        check_command([], servers)
    gone = commands(tmp_path, "/nosuch/program")
    with pytest.raises(BrigadeError, match="s1: cannot start /nosuch/program: No such file"):
        gone.start("s1", "10.0.0.1")
