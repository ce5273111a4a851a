"""The command `lbctl history`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.history import Event
from controlplane.operator.requests import request_text
from lb.cli._controller_store import config_option, opened
from lb.cli._options import json_option


@click.command(epilog="Exit codes: 0 success, 1 failed, 2 wrong configuration, 5 no store here.")
@click.argument("name", required=False)
@json_option
@config_option
def command(name: str | None, as_json: bool, config_path: Path) -> None:
    """Show what happened to servers, beside what was foreseen.

    One line for each drain, end of a drain, join and loss (of NAME, or of all servers), the newest
    last: when, by whom and why, what its plan contained, and what then happened. The controller
    keeps the last 200.
    """
    with opened(config_path) as (_, store):
        events = [event for event in store.history() if name in (None, event.server)]
    if as_json:
        click.echo(json.dumps([asdict(event) for event in events], indent=2))
        return
    if not events:
        click.echo("nothing has happened since the controller began to keep it")
    for event in events:
        click.echo(line(event))


def line(event: Event) -> str:
    """Return one event, for people."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    who = request_text(DrainRequest(event.by, reason=event.reason))
    return f"{when} {event.server} {event.kind.value}{who}; {_foreseen(event)}; {_happened(event)}"


def _foreseen(event: Event) -> str:
    plan = event.foreseen
    if plan is None:
        return "nothing was foreseen"
    return (
        f"foreseen: {plan.buckets:,} buckets, {plan.forced:,} hops forced, {_lost(plan.lost)}, "
        f"at least {plan.seconds:.1f} s"
    )


def _happened(event: Event) -> str:
    found = event.happened
    when = "happened" if event.over else "so far"
    return (
        f"{when}: {found.buckets:,} buckets, {found.forced:,} hops forced, {_lost(found.lost)}, "
        f"{found.strays:,} strays, {found.seconds:.1f} s"
    )


def _lost(count: int | None) -> str:
    return "unknown losses" if count is None else f"{count:,} lost"
