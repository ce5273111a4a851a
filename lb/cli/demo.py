"""The command `lbctl demo`."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.domain.errors import UsageError
from lb.cli._options import json_file_option, write_json


@click.command(
    epilog="Exit codes: 0 success (every promise was kept), 1 a promise was broken or the demo "
    "could not run, 2 wrong usage, 130 interrupted."
)
@click.option(
    "--quick", is_flag=True, help="Use half the connections and fewer steps; take at most 150 s."
)
@click.option("--keep", is_flag=True, help="Keep the network running and print commands to try.")
@click.option("--remove", is_flag=True, help="Remove the networks that --keep left, then stop.")
@json_file_option
@click.option(
    "--only",
    multiple=True,
    metavar="STEP",
    help="Run only this step. Can be repeated.",
)
def command(
    quick: bool, keep: bool, remove: bool, json_path: Path | None, only: tuple[str, ...]
) -> int:
    """Show the load balancer at work in network namespaces.

    Servers, routers and connections are real, and every number is measured. Steps for --only:
    spread, join, drain, reshuffle, agent_restart, controller_restart, kill, operate, rolling,
    balance. --quick leaves out operate and rolling.
    """
    from lb.demo.progress import ProgressLog
    from lb.demo.runner import check_machine, run
    from netns.leftovers import remove_leftovers

    if remove:
        if quick or keep or only or json_path:
            raise UsageError("--remove cannot be combined with other options")
        check_machine()
        removed = remove_leftovers(kept=True)
        click.echo(f"removed {', '.join(removed)}" if removed else "nothing to remove")
        return 0
    progress = ProgressLog()
    findings = run(progress, only, quick=quick, keep=keep)
    progress.summary(findings)
    progress.print_lines(findings.to_try)
    write_json(json_path, findings.as_json())
    return 0 if findings.ok else 1
