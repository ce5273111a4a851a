"""The command `lbctl servers`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import ConfigError
from controlplane.operator.overview import keeps_text, overview
from controlplane.operator.requests import request_text
from controlplane.settings.models import ControlConfig
from controlplane.store.http.validity import chain_end, ending_soon
from lb.cli._controller_store import config_option, opened
from lb.cli._options import json_option
from lb.cli._show import show_whole
from lb.cli._strays import connections_text, count_of, strays_text

LISTEN_SECONDS = 0.6
"""How long to wait for reports before a server counts as silent: agents report every 0.25 s."""


@click.command(
    epilog="Exit codes: 0 success, 1 failed, 2 wrong configuration, 5 there is no store here."
)
@json_option
@config_option
def command(as_json: bool, config_path: Path) -> None:
    """Show servers, tables and drain requests of the controller.

    They are read from its store, so it also works while no controller runs. A certificate of the
    controller that ends within a week is a TROUBLE.
    """
    with opened(config_path) as (config, store):
        found = overview(store, config, LISTEN_SECONDS)
    found["troubles"] = list(troubles(config, time.time()))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_servers(found)


def troubles(config: ControlConfig, now: float) -> Iterator[str]:
    """Yield what is wrong with files of the controller. ``now``: Unix seconds."""
    if config.listen and config.listen.certificate:
        try:
            ends = {"listen.certificate": chain_end(config.listen.certificate)}
        except ConfigError as error:
            yield str(error)
        else:
            if soon := ending_soon(ends, now):
                yield soon


def print_servers(found: dict[str, Any]) -> None:
    """Print an overview (``controlplane.operator.overview``) for people."""
    if not found["servers"]:
        click.echo("no servers yet: lbctl control has published nothing here")
        return
    if found["leader"] is None:
        click.echo(
            "NO CONTROLLER LEADS this store: nothing changes until one runs (lbctl control). "
            "Agents that report to it by http: cannot, so silent ones may be well."
        )
    pools = [pool["name"] for pool in found["pools"]]
    headings = ("server", "DIP", "state", "agent", "unhealthy", "load", "connections")
    servers = Table(*headings, box=None)
    for pool in pools:
        servers.add_column(f"{pool} buckets", justify="right")
    for server in found["servers"]:
        load = "-" if server["load"] is None else f"{server['load']:.0%}"
        drain = " (drain requested)" if server["wished_draining"] else ""
        drain = " (drain held back)" if server["drain_held"] else drain
        drain = " (keeps its buckets)" if server["keeps"] else drain
        drain += " (cut off)" if server["cut_off"] else ""
        servers.add_row(
            server["name"],
            server["dip"],
            f"{server['state']}{drain}",
            _agent(server),
            ", ".join(server["unhealthy"]) or "-",
            load,
            str(server["connections"]),
            *(str(server["buckets"].get(pool, 0)) for pool in pools),
        )
    show_whole(servers)
    _print_notes(found)
    print_requests(found)
    for line in found.get("troubles", ()):
        click.echo(f"TROUBLE: {line}")
    for document in found["documents"]:
        waiting = ", ".join(document["waiting_for"])
        settled = "settled" if document["settled"] else f"waiting for {waiting}"
        if document["ahead"]:
            settled = (
                f"THE STORE IS BEHIND, servers use generation {document['ahead']}. If it was "
                "emptied, nothing can be published: begin with --seed (docs/running.md)"
            )
        click.echo(f"{document['kind']} generation {document['generation']}: {settled}")


def _agent(server: dict[str, Any]) -> str:
    """Return what is known of a server's agent, and of its services if it is silent."""
    text = str(server["agent"])
    text += ", services refuse" if server["refusing"] else ""
    return text + (", not ready" if server["not_ready"] else "")


def _print_notes(found: dict[str, Any]) -> None:
    """Print what is unusual about servers and pools, a line each."""
    for server in found["servers"]:
        if server["drain_held"]:
            reasons = "; ".join(server["drain_held"])
            click.echo(f"the drain of {server['name']} is held back: {reasons}")
        if server["keeps"]:
            click.echo(f"{server['name']} drains: {keeps_text(server['keeps'])}")
        if server["refusing"]:
            services = ", ".join(server["refusing"])
            refuses = "refuse" if len(server["refusing"]) > 1 else "refuses"
            click.echo(
                f"{server['name']} is silent, and {services} there {refuses} connections: start "
                "its agent and its services"
            )
        if server["strays"]:
            count = connections_text(count_of(server["strays"]))
            click.echo(
                f"STRAYS: {server['name']} has {count} that no table leads to, broken or about to "
                f"be ({strays_text(server['strays'])})"
            )
        if server["proved"]:
            count = connections_text(count_of(server["proved"]))
            others = ", ".join(f"{one['count']} by {one['broken_by']}" for one in server["proved"])
            click.echo(
                f"BROKEN: {count} of {server['name']} answered with a reset by servers that do not "
                f"have them, since the controller started ({others})"
            )
    _print_paths(found)
    _print_twins(found["servers"])
    _print_pools(found["pools"])


def _print_pools(pools: list[dict[str, Any]]) -> None:
    for pool in pools:
        if pool["panic"]:
            click.echo(
                f"PANIC: too many servers of pool {pool['name']} are unhealthy at once, so their "
                "checks are ignored"
            )
        if pool["load_unknown"]:
            names = ", ".join(pool["load_unknown"])
            source = "Prometheus" if pool["load"] == "prometheus" else "their agents"
            click.echo(
                f"LOAD UNKNOWN: pool {pool['name']} has no load of {names} from {source}, so their "
                "shares stay as they are"
            )
        if pool["probe"] is None:
            click.echo(
                f"pool {pool['name']} cannot be probed, so its servers are never declared down: "
                f"{pool['unprobed']}"
            )


def print_requests(found: dict[str, Any]) -> None:
    """Print who requested which drain, when and why."""
    for server in found["servers"]:
        if server["drain_request"]:
            request = DrainRequest(**server["drain_request"])
            click.echo(f"drain of {server['name']} requested{request_text(request)}")


def _print_paths(found: dict[str, Any]) -> None:
    """Print which servers do not reach each other, and what follows."""
    for server in found["servers"]:
        if server["cut_off_reason"]:
            click.echo(f"{server['name']} is cut off: {server['cut_off_reason']}")
        if server["lost_by"]:
            lost_by = ", ".join(server["lost_by"])
            click.echo(f"PATHS: encapsulated packets to {server['name']} are lost from {lost_by}")
    if found["split"]:
        click.echo(
            "SPLIT: servers do not reach each other, and no group of them has a majority, so none "
            "is taken out: look for filters of UDP port 6080, and at the links between them"
        )


def _print_twins(servers: list[dict[str, Any]]) -> None:
    """Name the machines that claim the name of another one."""
    for server in servers:
        if server["twin"]:
            click.echo(
                f"TWO MACHINES are called {server['name']}; this one is ignored: {server['twin']}"
            )
