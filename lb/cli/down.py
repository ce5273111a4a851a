"""The command `lbctl down`."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._options import config_option


@click.command(
    epilog="Exit codes: 0 success (or nothing to undo), 1 failed, 2 wrong configuration, "
    "3 refused because the server is in use or no controller runs, 4 timeout."
)
@config_option
@click.option(
    "--force",
    is_flag=True,
    help="Continue if the server is in use, no controller runs or a hook fails. Other servers' "
    "packets that still visit this one are lost.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="Stop waiting, with exit code 4, if other servers still use this one after this time.",
)
def command(config: Path, force: bool, timeout: float) -> None:
    """Undo what `lbctl up` changed on this server.

    The controller takes this server out of all tables; once every server uses these, routes are
    withdrawn, VIPs removed, programs detached and kernel settings restored. It also works after an
    agent was killed.
    """
    from controlplane import logs
    from lb.agent.config import load_agent_config
    from lb.agent.down import take_down

    settings = load_agent_config(config)
    logs.configure(settings.log_format)
    take_down(settings, click.echo, force=force, timeout_seconds=timeout)
