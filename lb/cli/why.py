"""The command `lbctl why`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from controlplane.operator.drain import known_server
from controlplane.operator.why import why
from controlplane.publish.published import Published
from lb.cli._controller_store import config_option, opened
from lb.cli._options import json_option
from lb.cli._show import show_whole

OLD_SECONDS = 30.0
"""A controller that leads writes its decisions at least every 10 s."""


@click.command(
    epilog="Exit codes: 0 success, 1 failed, 2 no such server or wrong configuration, 5 there is "
    "no store here."
)
@click.argument("name")
@json_option
@config_option
def command(name: str, as_json: bool, config_path: Path) -> None:
    """Show why a server has fewer buckets than an equal part.

    Every bucket that NAME does not have is counted under one reason: chain full, cap, weight, slow
    start, health, settling, silent agents, draining, not in use, moving. The controller decides and
    publishes them, once a tick; this command reads them from its store.
    """
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        known_server(config, newest.cluster, name)
        found = why(store, name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found, time.time())


def show(found: dict[str, Any], now: float) -> None:
    """Print the answer for people: one sentence, then the reasons by pool."""
    click.echo(found["summary"])
    if found["leader"] is None:
        click.echo("NO CONTROLLER LEADS this store: these are the decisions of the last one")
    if abs(age := now - found["at"]) > OLD_SECONDS:
        click.echo(f"warning: decided {age:.0f} s ago by the clock of this machine")
    for reason in found["drain_held"]:
        click.echo(f"its drain is held back: {reason}")
    for pool in found["pools"]:
        if pool["keeps"]:
            click.echo(f"pool {pool['name']}: {pool['keeps']}")
    rows = Table("pool", "buckets", "missing", "reason", "", box=None)
    for pool in found["pools"]:
        for missing in pool["missing"]:
            has = f"{pool['buckets']:,} of {pool['part']:,}"
            detail = [missing["reason"], missing["detail"]]
            rows.add_row(pool["name"], has, f"{missing['buckets']:,}", *detail)
    if rows.row_count:
        show_whole(rows)
