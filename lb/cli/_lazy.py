"""A click group that finds its commands as files and imports only the one that runs."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import click

from controlplane.domain.errors import BrigadeError


def summary(path: Path) -> str | None:
    """Return the first line of a command's help, read from its file without importing it.

    It is taken from where click takes the whole help, so the list of commands and the help of a
    command cannot differ: the docstring of a function `command`. A command that is assigned
    (`command = LazyGroup(help=__doc__)`) has the docstring of its file. None: the file defines no
    `command`, or Python cannot parse it.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "command":
            return _first_line(statement)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "command" for target in targets):
                return _first_line(tree)
    return None


def _first_line(node: ast.FunctionDef | ast.Module) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


class LazyGroup(click.Group):
    """Commands are the modules of `package`: the files `NAME<suffix>.py` of `folder`."""

    def __init__(
        self, *args: object, package: str, folder: Path, suffix: str = "", **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.package = package
        self.folder = folder
        self.suffix = suffix

    def _module(self, name: str) -> str:
        return name.replace("-", "_") + self.suffix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted, without importing them."""
        del ctx
        return sorted(
            path.stem.removesuffix(self.suffix).replace("_", "-")
            for path in self.folder.glob(f"*{self.suffix}.py")
            if not path.stem.startswith("_") and summary(path) is not None
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's module and return its `command`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package}.{self._module(cmd_name)}")
        command = module.command
        if not isinstance(command, click.Command):
            message = f"{module.__name__}.command is not a click command"
            raise BrigadeError(message)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with the first line of its help."""
        rows = [
            (name, summary(self.folder / f"{self._module(name)}.py") or "")
            for name in self.list_commands(ctx)
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
