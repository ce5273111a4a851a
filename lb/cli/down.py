"""The command `lbctl down`."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._options import config_option


@click.command(
    epilog="Exit codes: 0 success (or nothing to undo), 1 failed, 2 wrong configuration, "
    "3 refused because the server is in use."
)
@config_option
@click.option("--force", is_flag=True, help="Continue if the server is in use or a hook fails.")
def command(config: Path, force: bool) -> None:
    """Undo what `lbctl up` changed on this server.

    Routes are withdrawn, VIPs removed, programs detached and kernel settings restored. It also
    works after an agent was killed.
    """
    from controlplane import logs
    from lb.agent.config import load_agent_config
    from lb.agent.down import take_down

    settings = load_agent_config(config)
    logs.configure(settings.log_format)
    take_down(settings, click.echo, force=force)
