"""The command `lbctl up`."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._options import config_option


@click.command(
    epilog="Exit codes: 0 success (ended by a signal, Ctrl-C too), 1 failed, 2 wrong "
    "configuration, 3 refused (an agent runs already, or a foreign program is attached). The "
    "programs stay attached in all cases; lbctl down detaches them."
)
@config_option
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
def command(config: Path, dry_run: bool) -> None:
    """Run the agent of this server until a signal ends it.

    It attaches the programs, fills their tables from the store, and sets up the VIPs. Forwarding
    continues after the agent has ended. SIGHUP makes it read its settings, its token and its
    certificate authority again.
    """
    from controlplane import logs
    from lb.agent.config import SettingsFile, load_agent_config

    if dry_run:
        from lb.agent.dry_run import plan_up

        for line in plan_up(load_agent_config(config)):
            click.echo(line)
        return
    from lb.agent.up import run_agent

    stream = logs.own_stream()
    logs.configure(stream=stream)
    file = SettingsFile(config)
    settings = file.start()
    logs.configure(settings.config.log_format, stream=stream)
    run_agent(file, settings)
