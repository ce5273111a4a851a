"""The command `lbctl up`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controlplane.domain.errors import ExitCode
from lb.cli._options import config_option

if TYPE_CHECKING:
    from lb.agent.config import AgentConfig


@click.command(
    epilog="Exit codes: 0 success (ended by a signal, Ctrl-C too), 1 failed, 2 wrong "
    "configuration, 3 refused (an agent runs already, or a foreign program is attached), also by "
    "--dry-run. The programs stay attached in all cases; lbctl down detaches them."
)
@config_option
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
def command(config: Path, dry_run: bool) -> int:
    """Run the agent of this server until a signal ends it.

    It attaches the programs, fills their tables from the store, and sets up the VIPs. Forwarding
    continues after the agent has ended. SIGHUP makes it read its settings, its token and its
    certificate authority again.
    """
    from controlplane import logs
    from lb.agent.config import SettingsFile, load_agent_config

    if dry_run:
        return print_plan(load_agent_config(config))
    from lb.agent.up import run_agent

    stream = logs.own_stream()
    logs.configure(stream=stream)
    file = SettingsFile(config)
    settings = file.start()
    logs.configure(settings.config.log_format, stream=stream)
    run_agent(file, settings)
    return 0


def print_plan(settings: AgentConfig) -> int:
    """Print what `up` would do; the exit code is the one with which it would refuse."""
    from lb.dry_run import REFUSE, plan_up

    refused = False
    for line in plan_up(settings):
        click.echo(line)
        refused = refused or line.startswith(REFUSE)
    return ExitCode.REFUSED if refused else 0
