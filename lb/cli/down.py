"""Undo what `up` did: withdraw, take VIPs down, detach, restore; works after a crash too."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._options import config_option


@click.command(
    epilog="Exit codes: 0 all undone (or nothing to undo), 1 failed, 2 wrong configuration, "
    "3 refused because the server is in use."
)
@config_option
@click.option("--force", is_flag=True, help="Even if the server is in use, or a hook fails.")
def command(config: Path, force: bool) -> None:
    """Undo what `up` did: withdraw, take VIPs down, detach, restore; works after a crash too."""
    from controlplane import logs
    from lb.agent.config import load_agent_config
    from lb.agent.down import take_down

    settings = load_agent_config(config)
    logs.configure(settings.log_format)
    take_down(settings, click.echo, force=force)
