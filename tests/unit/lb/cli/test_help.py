"""Help texts: every command and option has one, in the same form everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from lb.cli.main import cli

VERBS = frozenset({
    "Ask", "Cancel", "Check", "Continue", "Create", "Keep", "Measure", "Print", "Read", "Remove",
    "Run", "Show", "Start", "Stop", "Undo", "Use", "Wait", "Write",
})  # fmt: skip
"""How a help text begins: what the command or the option does, in the imperative."""
HEAVY = ("bcc", "numpy", "pydantic", "pyroute2", "rich", "structlog")


def commands(
    group: click.Group = cli, context: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield a context for each command below a group, groups included."""
    context = context or click.Context(group, info_name="lbctl")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context)
        yield inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


CONTEXTS = list(commands())
OPTIONS = [
    pytest.param(option, id=f"{context.command_path} {option.opts[0]}")
    for context in CONTEXTS
    for option in context.command.get_params(context)
    if isinstance(option, click.Option)
]


def first_line(command: click.Command) -> str:
    return (command.help or "").partition("\n")[0]


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_a_command_is_listed_with_the_first_line_of_its_own_help(context: click.Context) -> None:
    parent = context.parent
    assert parent is not None
    assert isinstance(parent.command, click.Group)
    formatter = click.HelpFormatter(width=1000)
    parent.command.format_commands(parent, formatter)
    listed = dict(line.split(None, 1) for line in formatter.getvalue().splitlines()[1:])
    assert listed[context.info_name or ""].strip() == first_line(context.command)


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_the_help_of_a_command_says_what_it_does_and_how_it_ends(context: click.Context) -> None:
    line = first_line(context.command)
    assert line.split()[0] in VERBS
    assert line.endswith(".")
    epilog = context.command.epilog or ""
    assert "Exit codes: 0 success" in epilog
    assert epilog.endswith(".")


@pytest.mark.parametrize("option", OPTIONS)
def test_the_help_of_an_option_is_a_sentence(option: click.Option) -> None:
    text = option.help or ""
    assert text.split()[:1] != []
    assert text.split()[0] in VERBS
    assert text.endswith(".")


def test_lbctl_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lb.cli.main import run; assert run(['--help']) == 0; "
        f"print('loaded:', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
