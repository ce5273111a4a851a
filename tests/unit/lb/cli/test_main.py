"""`lbctl` itself: how it finds commands and reports errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from controlplane.domain.errors import BrigadeError, ConfigError
from lb.cli import main
from lb.cli._lazy import LazyGroup
from lb.paths import bpf_dir

HEAD = "import click\nfrom controlplane.domain.errors import BrigadeError, ConfigError\n"


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let lbctl find its commands in an empty package."""
    folder = tmp_path / "some_commands"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        main, "cli", LazyGroup(name="lbctl", package="some_commands", folder=folder)
    )
    yield folder
    for name in [name for name in sys.modules if name.startswith("some_commands")]:
        del sys.modules[name]


def add(folder: Path, name: str, body: str, doc: str = "Do it.") -> None:
    (folder / f"{name}.py").write_text(
        f'{HEAD}@click.command()\ndef command():\n    """{doc}\n\n    More.\n    """\n    {body}\n'
    )


def test_a_file_is_a_command(group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(group, "say_hello", "click.echo('hello')")
    assert main.run(["say-hello"]) == 0
    assert capsys.readouterr().out == "hello\n"


def test_help_imports_no_command(group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(group, "good", "pass", doc="Do a good thing.")
    (group / "broken.py").write_text("import no_such_module\ncommand = no_such_module.x\n")
    (group / "unparsable.py").write_text("def command(:\n")
    (group / "_helper.py").write_text("command = 1\n")
    (group / "unfinished.py").write_text('"""Soon."""\n')
    assert main.run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2].split()
    assert listed == ["broken", "good", "Do", "a", "good", "thing."]
    assert main.run(["good"]) == 0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise BrigadeError('no\\nroot')", 1, "lbctl: error: no root\n"),
        ("raise BrigadeError('drain timed out', 4)", 4, "lbctl: error: drain timed out\n"),
        ("raise ConfigError('pool: unknown key')", 2, "lbctl: error: pool: unknown key\n"),
        ("raise click.ClickException('bad file')", 1, "lbctl: error: bad file\n"),
        ("raise KeyboardInterrupt", 130, "\n"),
        ("click.get_current_context().exit(3)", 3, ""),
        ("return 5", 5, ""),
        ("return 'text'", 0, ""),
    ],
)
def test_how_commands_end(
    group: Path, capsys: pytest.CaptureFixture[str], body: str, code: int, message: str
) -> None:
    add(group, "thing", body)
    assert main.run(["thing"]) == code
    assert capsys.readouterr().err == message


def test_a_bug_keeps_its_traceback(group: Path) -> None:
    add(group, "thing", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        main.run(["thing"])


@pytest.mark.parametrize("arguments", [["nope"], ["thing", "--nope"], ["thing", "extra"]])
def test_wrong_usage_is_one_line_and_2(
    group: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    add(group, "thing", "pass")
    assert main.run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("lbctl: error: ")
    assert error.count("\n") == 1


def test_an_unknown_command_is_answered_with_the_closest_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["server"]) == 2
    error = capsys.readouterr().err
    assert "no command is called 'server'; did you mean 'servers'? there are: bench, " in error
    assert main.run(["bench", "dataplan"]) == 2
    assert "id you mean 'dataplane'?" in capsys.readouterr().err, "by click itself"
    assert main.run(["zzz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_every_command_here_loads_and_has_a_line_of_help() -> None:
    context = click.Context(main.cli)
    for name in main.cli.list_commands(context):
        assert main.cli.get_command(context, name) is not None
    for line in main.cli.get_help(context).partition("Commands:")[2].splitlines():
        assert line == "" or len(line.split()) > 1


def test_exit_codes_of_errors() -> None:
    assert BrigadeError("x").exit_code == 1
    assert BrigadeError("x", 7).exit_code == 7
    assert ConfigError("x").exit_code == 2


@pytest.mark.parametrize("folder", ["lb/_bpf", "bpf"], ids=["wheel", "clone"])
def test_bpf_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr("lb.paths.__file__", str(tmp_path / "lb" / "paths.py"))
    with pytest.raises(BrigadeError, match="install Bucket Brigade again"):
        bpf_dir()
    (tmp_path / folder).mkdir(parents=True)
    assert bpf_dir() == tmp_path / folder
