"""Measure: what a packet costs, what a table costs."""

from __future__ import annotations

import importlib
import importlib.util

import click

SUBCOMMANDS = {
    "control": "What building a table costs.",
    "dataplane": "What a packet costs, against a program that decides nothing.",
}


class BenchGroup(click.Group):
    """Finds `lb/bench/NAME_command.py` and imports only the one that runs."""

    @staticmethod
    def _module(name: str) -> str:
        return f"lb.bench.{name}_command"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the benchmarks that are there."""
        del ctx
        return [name for name in SUBCOMMANDS if importlib.util.find_spec(self._module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one benchmark's command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found = importlib.import_module(self._module(cmd_name)).command
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the benchmarks without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUBCOMMANDS[name]) for name in self.list_commands(ctx)])


command = BenchGroup(name="bench", help=__doc__)
