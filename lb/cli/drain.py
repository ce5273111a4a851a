"""Drain a server: no new connections, open ones stay."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._controller_store import config_option, opened


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Return when the server serves nobody any longer.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --wait: give up after this time, with exit code 4. The wish stays.",
)
@config_option
def command(name: str, wait: bool, timeout: float | None, config_path: Path) -> None:
    """Wish the server NAME drained, on the machine of the controller's store.

    The wish survives controllers; `lbctl undrain` takes it back. With --wait, returns when the
    server is current for no bucket, every server has that table in use, and the server reports no
    connection on its VIPs.
    """
    from controlplane.drain import known_server, wait_drained
    from controlplane.errors import UsageError
    from controlplane.newest import Newest

    if timeout is not None and not wait:
        raise UsageError("--timeout needs --wait")
    with opened(config_path) as (config, store):
        newest = Newest(store)
        newest.refresh()
        known_server(config, newest.cluster, name)
        store.wish_drain(name, wished=True)
        if wait:
            wait_drained(store, config, name, timeout)
            click.echo(f"{name} is drained")
        else:
            click.echo(f"{name} is wished drained")
