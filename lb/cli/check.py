"""The command `lbctl check`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lb.cli._options import json_option, settings_file

CONTROLLER_ONLY = frozenset({"server", "service", "pool", "listen", "probers", "tick_seconds"})


def kind_of(settings: dict[str, object]) -> str:
    """Detect the kind of a settings file; only a controller's has servers, services or pools."""
    return "control" if CONTROLLER_ONLY & settings.keys() else "agent"


@click.command(
    epilog="Exit codes: 0 success (there may be notes), 2 the file is wrong (the message names the "
    "key)."
)
@click.argument("file", type=settings_file)
@json_option
def command(file: Path, as_json: bool) -> None:
    """Check the settings file of an agent or a controller.

    FILE is read as its program would read it; the kind is detected from its keys.
    """
    from controlplane.settings.load import load_control_config
    from controlplane.settings.rules import notes
    from controlplane.settings.toml import load_toml
    from lb.agent.config import load_agent_config

    kind = kind_of(load_toml(file))
    noted: list[str] = []
    if kind == "control":
        noted = list(notes(load_control_config(file)))
    else:
        load_agent_config(file)
    if as_json:
        click.echo(json.dumps({"file": str(file), "kind": kind, "ok": True, "notes": noted}))
        return
    click.echo(f"{file}: valid settings of {'a controller' if kind != 'agent' else 'an agent'}")
    for note in noted:
        click.echo(f"note: {note}")
