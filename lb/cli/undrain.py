"""The command `lbctl undrain`."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.decide.plan.objects import Kind
from controlplane.operator.drain import known_server
from controlplane.operator.planning import foreseen_of, plan_change
from controlplane.publish.published import Published
from lb.cli._controller_store import config_option, opened, warn_without_leader
from lb.cli._plan_show import ask_if_lost, stage_lines, yes_option
from lb.cli.drain import LISTEN_SECONDS


@click.command(
    epilog="Exit codes: 0 success, 1 failed, 2 no such server or wrong configuration, 3 declined, "
    "5 there is no store here."
)
@click.argument("name")
@yes_option
@config_option
def command(name: str, yes: bool, config_path: Path) -> None:
    """Cancel the request to drain a server.

    NAME joins again, with slow start. Run this on the machine of the controller's store. First, it
    shows what this will do, if a controller runs; on a terminal, it asks if connections would be
    lost.
    """
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        if name not in store.drain_requests():
            known_server(config, newest.cluster, name)
            click.echo(f"no drain of {name} is requested, so there is nothing to cancel")
            return
        if store.leader() is not None and newest.cluster and newest.cluster.server(name):
            plan = plan_change(store, config, Kind.UNDRAIN, name, LISTEN_SECONDS).plan
            for line in stage_lines(plan) if plan else ():
                click.echo(line)
            if not yes:
                ask_if_lost(plan)
            if plan is not None:
                store.put_foreseen(name, foreseen_of(plan))
        store.request_drain(name, requested=False)
        led = warn_without_leader(store)
        known = any(server.name == name for server in config.server)
        joins = "it joins again" if led else "it joins again when a controller leads"
        then = joins if known else "no [[server]] of the settings has this name"
        click.echo(f"drain of {name} cancelled: {then}")
