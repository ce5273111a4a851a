"""The command `lbctl demo`."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.domain.errors import BrigadeError, UsageError


@click.command(
    epilog="Exit codes: 0 success (every promise was kept), 1 a promise was broken or the demo "
    "could not run, 2 wrong usage, 130 interrupted."
)
@click.option("--quick", is_flag=True, help="Use half the connections; take at most 150 seconds.")
@click.option("--keep", is_flag=True, help="Keep the network running and print commands to try.")
@click.option("--remove", is_flag=True, help="Remove the networks that --keep left, then stop.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the measurements to this file; - is standard output.",
)
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
    spread, join, drain, reshuffle, agent_restart, controller_restart, kill, balance.
    """
    import json

    from lb.demo.progress import ProgressLog
    from lb.demo.runner import Options, check_machine, run
    from netns.leftovers import remove_leftovers

    if remove:
        if quick or keep or only or json_path:
            raise UsageError("--remove cannot be combined with other options")
        check_machine()
        removed = remove_leftovers(kept=True)
        click.echo(f"removed {', '.join(removed)}" if removed else "nothing to remove")
        return 0
    progress = ProgressLog()
    findings = run(Options(quick, keep, only), progress)
    progress.summary(findings)
    progress.print_lines(findings.to_try)
    if json_path is not None:
        text = json.dumps(findings.as_json(), indent=2) + "\n"
        if str(json_path) == "-":
            click.echo(text, nl=False)
        else:
            try:
                json_path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise BrigadeError(f"cannot write {json_path}: {error.strerror}") from error
    return 0 if findings.ok else 1
