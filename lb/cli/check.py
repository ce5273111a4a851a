"""Read a settings file as its program would, and say what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lb.cli._options import json_option, settings_file

CONTROLLER_ONLY = frozenset({"server", "service", "pool", "listen", "probers", "tick_seconds"})


def kind_of(settings: dict[str, object]) -> str:
    """Tell whose settings these are: a controller's have servers, services or pools."""
    return "control" if CONTROLLER_ONLY & settings.keys() else "agent"


@click.command(
    epilog="Exit codes: 0 it is right (notes may follow), 2 it is not: the line names the key."
)
@click.argument("file", type=settings_file)
@json_option
def command(file: Path, as_json: bool) -> None:
    """Read a settings file as its program would, and say what is wrong with it.

    FILE is an agent's or a controller's; which, is told by what is in it.
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
    click.echo(f"{file}: right, settings of {'a controller' if kind != 'agent' else 'an agent'}")
    for note in noted:
        click.echo(f"note: {note}")
