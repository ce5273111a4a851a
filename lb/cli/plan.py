"""The command `lbctl plan`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from controlplane.decide.plan.objects import Kind
from controlplane.operator.drain_preview import DrainPreview
from controlplane.operator.planning import plan_change
from lb.cli._controller_store import config_option, opened
from lb.cli._options import json_option
from lb.cli._plan_show import show_plan
from lb.cli.drain import LISTEN_SECONDS

EPILOG = (
    "Exit codes: 0 success (also if guards would refuse it), 1 failed, 2 no such server or wrong "
    "configuration, 3 it would do nothing, 5 there is no store or no controller here."
)


@click.group(epilog=EPILOG)
def command() -> None:
    """Show what a change would do, and do nothing.

    The builder is run ahead on what the controller knows: buckets that move, connections that are
    passed on or lost and why, the time it takes at least, each server's part and load afterwards,
    and how old this knowledge is. Run it on the machine of the controller's store.
    """


def _subcommand(kind: Kind) -> Callable[[Callable[..., None]], click.Command]:
    def decorate(function: Callable[..., None]) -> click.Command:
        named = click.argument("name")(json_option(config_option(function)))
        return command.command(kind.value, epilog=EPILOG)(named)

    return decorate


def _plan(kind: Kind, name: str, config_path: Path, *, as_json: bool) -> None:
    with opened(config_path) as (config, store):
        found = plan_change(store, config, kind, name, LISTEN_SECONDS)
    if as_json:
        click.echo(json.dumps(_values(found), indent=2))
    elif found.plan is not None:
        show_plan(found.plan)
        if kind in (Kind.DRAIN, Kind.REBOOT) and found.serving:
            click.echo(f"guards: {'; '.join(found.reasons) or 'allowed'}")


def _values(found: DrainPreview) -> dict[str, object]:
    lost = found.plan.lost if found.plan else None
    return {**asdict(found), "lost": lost, "reasons": found.reasons}


@_subcommand(Kind.DRAIN)
def drain(name: str, as_json: bool, config_path: Path) -> None:
    """Show what `lbctl drain NAME` would do."""
    _plan(Kind.DRAIN, name, config_path, as_json=as_json)


@_subcommand(Kind.UNDRAIN)
def undrain(name: str, as_json: bool, config_path: Path) -> None:
    """Show what `lbctl undrain NAME` would do, up to the end of slow start."""
    _plan(Kind.UNDRAIN, name, config_path, as_json=as_json)


@_subcommand(Kind.DOWN)
def down(name: str, as_json: bool, config_path: Path) -> None:
    """Show what breaks if NAME goes at once.

    So it does if its machine fails, or by `lbctl down --force` there. Without --force, `lbctl down`
    refuses to break anything.
    """
    _plan(Kind.DOWN, name, config_path, as_json=as_json)


@_subcommand(Kind.REBOOT)
def reboot(name: str, as_json: bool, config_path: Path) -> None:
    """Show what a reboot of NAME would do: drained, away, back."""
    _plan(Kind.REBOOT, name, config_path, as_json=as_json)
