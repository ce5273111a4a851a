"""Drain a server: no new connections, open ones stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lb.cli._controller_store import config_option, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from controlplane.operator.drain import DrainProgress

TELL_SECONDS = 2.0


class Progress:
    """Tells a person who waits how far it is: when that has changed, every 2 s at most."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._next = clock() + TELL_SECONDS
        self._said = ""

    def __call__(self, progress: DrainProgress) -> None:
        """Take what is still missing."""
        text = f"{self._name} is {progress}"
        now = self._clock()
        if now >= self._next and text != self._said:
            click.echo(text, err=True)
            self._said, self._next = text, now + TELL_SECONDS


@click.command(
    epilog="Exit codes: 0 done, 1 failed, 2 no such server or wrong configuration, 4 the timeout "
    "came first, 5 there is no store here."
)
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
    from controlplane.domain.errors import UsageError
    from controlplane.operator.drain import known_server, wait_drained
    from controlplane.publish.published import Published

    if timeout is not None and not wait:
        raise UsageError("--timeout needs --wait")
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        known_server(config, newest.cluster, name)
        store.request_drain(name, requested=True)
        if wait:
            wait_drained(store, config, name, timeout, Progress(name, time.monotonic))
            click.echo(f"{name} is drained")
        else:
            click.echo(
                f"{name} is wished drained: lbctl servers shows how far it is, "
                f"lbctl undrain {name} takes it back"
            )
