"""A click group that finds its commands as files and imports only the one that runs."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import click

from controlplane.domain.errors import BrigadeError

NOT_COMMANDS = frozenset({"main"})


def first_line(path: Path) -> str | None:
    """Return the first docstring line of a command's file, read without importing it.

    None if the file defines no `command`, or cannot be parsed, and so is no command (yet).
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "command":
            break
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "command" for target in targets):
                break
    else:
        return None
    return (ast.get_docstring(tree) or "").partition("\n")[0]


class LazyGroup(click.Group):
    """Commands are the modules of `package`, whose files lie in `folder`."""

    def __init__(self, *args: object, package: str, folder: Path, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.package = package
        self.folder = folder

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace('-', '_')}.py"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in order, importing none."""
        del ctx
        return sorted(
            path.stem.replace("_", "-")
            for path in self.folder.glob("*.py")
            if not path.stem.startswith("_")
            and path.stem not in NOT_COMMANDS
            and first_line(path) is not None
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's module and return what it calls `command`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command = module.command
        if not isinstance(command, click.Command):
            message = f"{module.__name__}.command is no click command"
            raise BrigadeError(message)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first lines of their files."""
        rows = [(name, first_line(self._path(name)) or "") for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
