"""Attach the programs, follow the store and run until a signal; forwarding outlives it."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._options import config_option


@click.command(
    epilog="Exit codes: 0 ended by a signal (Ctrl-C too), 1 failed, 2 wrong configuration, "
    "3 refused (a second up, a foreign program). None detaches anything: lbctl down does."
)
@config_option
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
def command(config: Path, dry_run: bool) -> None:
    """Attach the programs, follow the store and run until a signal; forwarding outlives it."""
    from controlplane import logs
    from lb.agent.config import load_agent_config

    settings = load_agent_config(config)
    if dry_run:
        from lb.agent.dry_run import plan_up

        for line in plan_up(settings):
            click.echo(line)
        return
    from lb.agent.up import run_agent

    logs.configure(settings.log_format, stream=logs.own_stream())
    run_agent(settings)
