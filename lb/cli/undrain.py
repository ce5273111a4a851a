"""The command `lbctl undrain`."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.operator.drain import known_server
from controlplane.publish.published import Published
from lb.cli._controller_store import config_option, opened, warn_without_leader


@click.command(
    epilog="Exit codes: 0 success, 1 failed, 2 no such server or wrong configuration, 5 there is "
    "no store here."
)
@click.argument("name")
@config_option
def command(name: str, config_path: Path) -> None:
    """Cancel the request to drain a server.

    NAME joins again, with slow start. Run this on the machine of the controller's store.
    """
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        if name not in store.drain_requests():
            known_server(config, newest.cluster, name)
            click.echo(f"no drain of {name} is requested, so there is nothing to cancel")
            return
        store.request_drain(name, requested=False)
        warn_without_leader(store)
        known = any(server.name == name for server in config.server)
        then = "it joins again" if known else "no [[server]] of the settings has this name"
        click.echo(f"drain of {name} cancelled: {then}")
