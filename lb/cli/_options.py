"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

settings_file = click.Path(path_type=Path, dir_okay=False, readable=False)
"""A file of settings. Its reader reports why it cannot be read, so click does not check it."""

config_option = click.option(
    "--config",
    type=settings_file,
    default=Path("/etc/bucket-brigade/agent.toml"),
    show_default=True,
    help="Read the agent's settings from this file.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
