"""The command `lbctl check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from controlplane.domain.errors import ExitCode, UsageError
from lb.cli._options import json_option, settings_file

CONTROLLER_ONLY = frozenset({"server", "service", "pool", "listen", "probers", "tick_seconds"})


def kind_of(settings: dict[str, object]) -> str:
    """Detect the kind of a settings file; only a controller's has servers, services or pools."""
    return "control" if CONTROLLER_ONLY & settings.keys() else "agent"


@click.command(
    epilog="Exit codes: 0 success (there may be notes), 2 the file is wrong (the message names the "
    "key), 5 there is no such store."
)
@click.argument("file", type=settings_file)
@click.option(
    "--against",
    metavar="STORE",
    help="Check also what a reload of the controller that has this store would refuse.",
)
@json_option
def command(file: Path, against: str | None, as_json: bool) -> int:
    """Check the settings file of an agent or a controller.

    FILE is read as its program would read it; the kind is detected from its keys. STORE is the
    controller's store, file:DIR or DIR, on this machine.
    """
    from controlplane.settings.load import load_control_config
    from controlplane.settings.rules import notes
    from controlplane.settings.toml import load_toml
    from lb.agent.config import load_agent_config

    kind = kind_of(load_toml(file))
    noted: list[str] = []
    faults: Sequence[str] = ()
    if against and kind != "control":
        raise UsageError(f"--against is for the file of a controller; {file} is an agent's")
    if kind == "control":
        noted = list(notes(load_control_config(file)))
    else:
        load_agent_config(file)
    if against:
        from lb.cli._against import findings_against

        faults, changes = findings_against(file, against)
        noted += changes
    for fault in faults:
        click.echo(f"lbctl: error: {file}: {fault}", err=True)
    if as_json:
        outcome = {"file": str(file), "kind": kind, "ok": not faults, "notes": noted}
        click.echo(json.dumps({**outcome, "faults": list(faults)}))
    if as_json or faults:
        return ExitCode.USAGE if faults else 0
    click.echo(f"{file}: valid settings of {'a controller' if kind != 'agent' else 'an agent'}")
    for note in noted:
        click.echo(f"note: {note}")
    return 0
