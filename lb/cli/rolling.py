"""The command `lbctl rolling`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.operator.rolling.session import only_run
from lb.cli._controller_store import config_option, opened
from lb.cli._options import json_option
from lb.cli._rolling import Arguments, dry_run, roll

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType):  # type: ignore[type-arg] # only newer versions have one
    """A time: ``90``, ``90s``, ``10m`` or ``2h``; its value is in seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a time as 90s, 10m or 2h", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@click.command(
    epilog="Exit codes: 0 success, 1 stopped: a command or a check failed, or something got worse, "
    "2 wrong usage or configuration, 3 a guard refuses it, or another run goes on, 4 "
    "timeout, 5 no store or no controller, 130 interrupted."
)
@click.option("--pool", metavar="POOL", help="Use only the servers of this pool.")
@click.option("--servers", metavar="A,B", help="Use these servers, in this order.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Run it on so many servers at the same time.",
)
@click.option(
    "--wait-connections",
    type=Duration(),
    default="10m",
    show_default=True,
    help="Wait at most so long for a server's connections to end; those that are left then may "
    "break.",
)
@click.option(
    "--command-timeout",
    type=Duration(),
    default="10m",
    show_default=True,
    help="Stop a command that takes longer.",
)
@click.option(
    "--wait-ready",
    type=Duration(),
    default="10m",
    show_default=True,
    help="Wait at most so long after the command until the server is well.",
)
@click.option(
    "--wait-share",
    type=Duration(),
    default="30m",
    show_default=True,
    help="Wait at most so long until the server has its share, and until chains have space.",
)
@click.option(
    "--restarts-agent",
    is_flag=True,
    help="Wait for a report of a new run of the agent: for commands that end before it restarts.",
)
@click.option("--reason", default="", metavar="TEXT", help="Show this reason in lbctl servers.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the journal in this file (with --resume: read it); default: the folder `rolling` "
    "beside the store.",
)
@click.option("--resume", is_flag=True, help="Continue the last run that did not end.")
@click.option("--rerun", is_flag=True, help="Run again a command that did not succeed (--resume).")
@click.option("--skip", is_flag=True, help="Continue as if it had succeeded (with --resume).")
@click.option("--dry-run", is_flag=True, help="Show order, moves and guards, and do nothing.")
@json_option
@config_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def command(**values: Any) -> None:
    """Run a command on every server in turn, each drained before.

    For each server: drain it, wait until it has no connections, run COMMAND on this machine ({name}
    and {dip} are replaced; no shell), wait until its agent has reported anew and is ready, its
    checks pass and a probe through the tunnel is answered, cancel the drain, and wait until it has
    its share again. Then comes the next one. Servers that are not in use are left out.

    It stops at the first command that fails, server that does not come back, refusal of a guard,
    hop pushed out of a chain, connection that broke, or new trouble of another server; Ctrl-C stops
    it after the command that runs, a second one at once. The last line has the state, and the
    commands to go on. A reboot of the machine needs `lbctl down` before it.

    Example: lbctl rolling --pool web -- ssh {name} systemctl restart nginx
    """
    arguments = Arguments(**values)
    _check(arguments)
    with opened(arguments.config_path) as (config, store):
        if arguments.dry_run:
            dry_run(arguments, config, store)
            return

        if store.leader() is None:
            raise BrigadeError(
                "no controller leads this store, so no drain would begin: start lbctl control",
                ExitCode.UNAVAILABLE,
            )
        with only_run(config.store):
            roll(arguments, config, store)


def _check(arguments: Arguments) -> None:
    """Raise ``UsageError`` for options that contradict each other."""
    if (arguments.rerun or arguments.skip) and not arguments.resume:
        raise UsageError("--rerun and --skip need --resume")
    if arguments.rerun and arguments.skip:
        raise UsageError("--rerun and --skip contradict each other")
    if arguments.resume and (arguments.command or arguments.servers or arguments.pool):
        raise UsageError("--resume takes servers and command from the journal: give neither")
    if arguments.resume and arguments.dry_run:
        raise UsageError("--dry-run shows a new run: not with --resume")
