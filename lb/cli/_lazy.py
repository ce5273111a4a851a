"""A click group that finds its commands as files and imports only the one that runs."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import click

from controlplane.domain.errors import BrigadeError
from controlplane.domain.names import guess


def summary(path: Path) -> str | None:
    """Return the first line of a command's help, read from its file without importing it.

    It is the docstring of its function `command`, where click takes the whole help from. None: the
    file defines no `command`, or Python cannot parse it.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name="command"):
                return (ast.get_docstring(statement) or "").partition("\n")[0]
            case ast.Assign(targets=[ast.Name(id="command")]):
                return ""
    return None


class LazyGroup(click.Group):
    """Commands are the modules of `package`: the files `NAME.py` of `folder`."""

    def __init__(self, *, package: str, folder: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.package = package
        self.folder = folder

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted, without importing them."""
        del ctx
        return sorted(
            path.stem.replace("_", "-")
            for path in self.folder.glob("*.py")
            if not path.stem.startswith("_") and summary(path) is not None
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's module and return its `command`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command = module.command
        if not isinstance(command, click.Command):
            message = f"{module.__name__}.command is not a click command"
            raise BrigadeError(message)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of these arguments; an unknown name is answered with the closest one."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            ctx.fail(
                f"no command is called {args[0]!r}; {guess(args[0], names)}"
                f"there are: {', '.join(names)}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with the first line of its help."""
        rows = [
            (name, summary(self.folder / f"{name.replace('-', '_')}.py") or "")
            for name in self.list_commands(ctx)
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
