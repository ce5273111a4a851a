"""The command `lbctl check`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.domain.errors import ConfigError, ExitCode, SettingsError, UsageError
from controlplane.domain.names import closest
from lb.cli._options import json_option, settings_file

if TYPE_CHECKING:
    from lb.cli._on_this_machine import Finding


LIKENESS = 0.8
"""How much a key has to resemble a known one to count as misspelt: "tool" does not mean "pool"."""


def kind_of(path: Path, settings: Iterable[str]) -> str:
    """Detect the kind of a settings file from its top-level keys: ``control`` or ``agent``.

    Raises:
        ConfigError: most of its keys are neither an agent's nor a controller's.

    """
    from controlplane.settings.models import ControlConfig
    from lb.agent.config import AgentConfig

    keys = set(settings)
    control, agent = set(ControlConfig.model_fields), set(AgentConfig.model_fields)
    near = [closest(key, control | agent, LIKENESS) for key in keys]
    if not keys & (control | agent) and near.count(None) * 2 >= len(near):
        found = f"its keys are {', '.join(sorted(keys))}" if keys else "it has no keys"
        raise ConfigError(f"{path}: is not a settings file of an agent or a controller: {found}")

    def score(own: set[str], other: set[str]) -> tuple[int, int]:
        exact = len(keys & (own - other))
        return exact, sum(key in own - other for key in near)

    return "control" if score(control, agent) > score(agent, control) else "agent"


def findings_in(file: Path, kind: str) -> list[Finding]:
    """Return the mistakes in a valid file that show on this machine, and its notes.

    Raises:
        ConfigError: the file itself has mistakes.

    """
    from controlplane.settings.load import load_control_config
    from controlplane.settings.rules import notes
    from lb.agent.config import load_agent_config
    from lb.cli._on_this_machine import Finding, of_agent, of_controller

    if kind == "control":
        config = load_control_config(file)
        return [*(Finding(note) for note in notes(config)), *of_controller(config)]
    return list(of_agent(load_agent_config(file)))


@click.command(
    epilog="Exit codes: 0 success (there may be notes), 2 the file is wrong (there is one line for "
    "each mistake, with its key), 5 there is no such store."
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

    FILE is read as its program would read it; the kind is detected from its keys. Files that it
    names are checked, too, if they are on this machine. STORE is the controller's store, file:DIR
    or DIR, on this machine.
    """
    from controlplane.settings.toml import load_toml
    from lb.cli._against import findings_against

    kind = kind_of(file, load_toml(file))
    if against and kind != "control":
        raise UsageError(f"--against is for the file of a controller; {file} is an agent's")
    faults: list[str] = []
    notes: list[str] = []
    try:
        found = findings_in(file, kind)
        faults = [finding.text for finding in found if finding.wrong]
        notes = [finding.text for finding in found if not finding.wrong]
        if against:
            refused, changes = findings_against(file, against)
            keys = {fault.partition(":")[0] for fault in refused}
            faults = [*refused, *(f for f in faults if f.partition(":")[0] not in keys)]
            notes += changes
    except SettingsError as error:
        faults = list(error.faults)
    show(file, kind, faults, notes, as_json=as_json)
    return ExitCode.USAGE if faults else 0


def show(file: Path, kind: str, faults: list[str], notes: list[str], *, as_json: bool) -> None:
    """Print the outcome: mistakes to standard error, the rest to standard output."""
    for fault in faults:
        click.echo(f"lbctl: error: {file}: {fault}", err=True)
    if as_json:
        outcome: dict[str, Any] = {"file": str(file), "kind": kind, "ok": not faults}
        click.echo(json.dumps({**outcome, "notes": notes, "faults": faults}))
        return
    if not faults:
        who = "a controller" if kind == "control" else "an agent"
        click.echo(f"{file}: valid settings of {who}")
    for note in notes:
        click.echo(f"note: {note}")
