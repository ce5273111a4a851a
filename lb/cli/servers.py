"""Show the controller's view: servers, states, shares, wishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lb.cli._controller_store import config_option, opened

LISTEN_SECONDS = 0.6
"""How long reports are listened to before somebody is called silent: agents report every 0.25 s."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def command(as_json: bool, config_path: Path) -> None:
    """Show servers, tables and wishes as the store has them; works without a controller."""
    from controlplane.overview import overview

    with opened(config_path) as (config, store):
        found = overview(store, config, LISTEN_SECONDS)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    pools = [pool["name"] for pool in found["pools"]]
    servers = Table("server", "DIP", "state", "agent", "load", "connections", box=None)
    for pool in pools:
        servers.add_column(f"{pool} buckets", justify="right")
    for server in found["servers"]:
        load = "-" if server["load"] is None else f"{server['load']:.2f}"
        wished = " (wished)" if server["wished_draining"] else ""
        servers.add_row(
            server["name"],
            server["dip"],
            f"{server['state']}{wished}",
            server["agent"],
            load,
            str(server["connections"]),
            *(str(server["buckets"].get(pool, 0)) for pool in pools),
        )
    console.print(servers)
    for document in found["documents"]:
        waiting = ", ".join(document["waiting_for"])
        settled = "settled" if document["settled"] else f"waiting for {waiting}"
        console.print(f"{document['kind']} generation {document['generation']}: {settled}")
