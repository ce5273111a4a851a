"""The command `lbctl drain`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from controlplane.domain.errors import UsageError
from controlplane.operator.drain import DrainProgress, known_server, wait_drained
from controlplane.operator.requests import drain_request
from controlplane.publish.published import Published
from lb.cli._controller_store import config_option, opened, warn_without_leader

PRINT_SECONDS = 2.0


class Progress:
    """Prints the progress of a drain when it has changed, at most every 2 s."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._next = clock() + PRINT_SECONDS
        self._printed = ""

    def __call__(self, progress: DrainProgress) -> None:
        """Print what is still missing, if that is new."""
        text = f"{self._name} {progress}"
        now = self._clock()
        if now >= self._next and text != self._printed:
            click.echo(text, err=True)
            self._printed, self._next = text, now + PRINT_SECONDS


@click.command(
    epilog="Exit codes: 0 success, 1 failed, 2 no such server or wrong configuration, 4 timeout, "
    "5 there is no store here."
)
@click.argument("name")
@click.option(
    "--wait", is_flag=True, help="Wait until the server has no buckets and no connections."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop waiting after this time, with exit code 4; the request stays.",
)
@click.option(
    "--reason",
    default="",
    metavar="TEXT",
    help="Show this reason in lbctl servers and in the log, with your name and the time.",
)
@config_option
def command(name: str, wait: bool, timeout: float | None, reason: str, config_path: Path) -> None:
    """Ask the controller to drain a server.

    NAME gets no new connections, and keeps the open ones. Run this on the machine of the
    controller's store. The request stays there, also when controllers restart or a new store is
    seeded, until `lbctl undrain` cancels it. With --wait, the command returns when NAME is the
    current server of no bucket, every server uses that table, and NAME reports no connection on its
    VIPs.
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout needs --wait")
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        known_server(config, newest.cluster, name)
        store.request_drain(name, requested=True, request=drain_request(reason))
        warn_without_leader(store)
        if wait:
            wait_drained(store, config, name, timeout, Progress(name, time.monotonic))
            click.echo(f"{name} is drained")
        else:
            click.echo(
                f"drain of {name} requested: lbctl servers shows the progress, "
                f"lbctl undrain {name} cancels it"
            )
