"""The command `lbctl drain`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.operator.drain import (
    DrainProgress,
    await_verdict,
    known_server,
    wait_drained,
)
from controlplane.operator.drain_preview import DrainPreview, preview_drain
from controlplane.operator.overview import keeps_text
from controlplane.operator.planning import foreseen_of
from controlplane.operator.requests import drain_request
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore, StoreError
from lb.cli._controller_store import config_option, opened, warn_without_leader
from lb.cli._options import json_option
from lb.cli._plan_show import ask_if_lost, effect_lines, over_lines, yes_option

PRINT_SECONDS = 2.0
LISTEN_SECONDS = 0.6
"""How long to wait for reports before a server counts as silent: agents report every 0.25 s."""
VERDICT_TICKS = 2
VERDICT_SECONDS = 0.5
"""How long to wait for the controller's verdict, beyond the ticks."""


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
    epilog="Exit codes: 0 success, 1 failed, 2 no such server or wrong configuration, 3 a guard "
    "refuses it, or declined, 4 timeout, 5 there is no store here."
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
@click.option("--force", is_flag=True, help="Continue even if the guards refuse it.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what it would do, and request nothing.")
@json_option
@config_option
def command(
    *,
    name: str,
    wait: bool,
    timeout: float | None,
    reason: str,
    force: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Ask the controller to drain a server.

    NAME gets no new connections, and keeps the open ones. Run this on the machine of the
    controller's store. First, it shows what the drain will do. A drain that would leave a pool with
    fewer than min_active of its servers, or none, or that would break connections because chains
    are full, is refused without --force; the controller checks it again. On a terminal, it asks
    before other losses that the plan (`lbctl plan drain`) foresees. The request stays in the
    store, also when controllers restart or a new store is seeded, until `lbctl undrain` cancels it.
    With --wait, the command returns when NAME is the current server of no bucket, every server uses
    that table, and NAME reports no connection on its VIPs.
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout needs --wait")
    with opened(config_path) as (config, store):
        newest = Published(store)
        newest.refresh()
        known_server(config, newest.cluster, name)
        found = preview_drain(store, config, name, LISTEN_SECONDS)
        if not as_json:
            show(found)
        if found.reasons and not force:
            _show_json(found, "refused", as_json=as_json)
            raise _refusal(name, found.reasons)
        if dry_run:
            _show_json(found, "allowed", as_json=as_json)
            return
        if not (force or yes):
            ask_if_lost(found.plan)
        outcome = request(store, config, found, reason, force=force)
        if wait:
            wait_drained(store, config, name, timeout, Progress(name, time.monotonic))
            outcome = "drained"
    _show_json(found, outcome, as_json=as_json)
    if not as_json:
        click.echo(TEXTS[outcome].format(name=name))


TEXTS = {
    "draining": "{name} is draining: lbctl servers shows the progress, lbctl undrain {name} "
    "cancels it",
    "requested": "drain of {name} requested: lbctl servers shows the progress, "
    "lbctl undrain {name} cancels it",
    "drained": "{name} is drained",
}


def request(
    store: ControllerStore,
    config: ControlConfig,
    found: DrainPreview,
    reason: str,
    *,
    force: bool,
) -> str:
    """Request the drain, and return whether the controller has begun it.

    A drain that the controller holds back, or whose command ends before it is known, is cancelled:
    it must not begin later, when nobody expects it. A request that others have made since stays.

    Raises:
        BrigadeError: the controller holds it back; exit code 3.

    """
    name = found.server
    made = replace(drain_request(reason), force=force)
    if found.plan is not None:
        store.put_foreseen(name, foreseen_of(found.plan))
    store.request_drain(name, requested=True, request=made)
    warn_without_leader(store)
    if store.leader() is None or not found.serving:
        return "requested"
    seconds = VERDICT_TICKS * config.tick_seconds + VERDICT_SECONDS
    try:
        held = await_verdict(store, name, seconds, force=force)
        if held:
            raise _refusal(name, held)
    except BaseException:
        if not found.requested:
            _cancel(store, name, made)
        raise
    return "requested" if held is None else "draining"


def _cancel(store: ControllerStore, name: str, made: DrainRequest) -> None:
    """Cancel a request unless somebody has replaced it.

    The reason for it matters more than a store that fails meanwhile, which is only a warning.
    """
    try:
        if store.drain_requests().get(name) == made:
            store.request_drain(name, requested=False)
            store.take_foreseen(name)
    except StoreError as error:
        click.echo(
            f"warning: the drain of {name} may still be requested: {error}; cancel it with "
            f"`lbctl undrain {name}`",
            err=True,
        )


def _refusal(name: str, reasons: tuple[str, ...]) -> BrigadeError:
    return BrigadeError(
        f"{name} is not drained: {'; '.join(reasons)}; bring servers back, wait, or use --force",
        ExitCode.REFUSED,
    )


def show(found: DrainPreview) -> None:
    """Print what the drain will do, for people."""
    for line in lines(found):
        click.echo(line)


def lines(found: DrainPreview) -> Iterator[str]:
    """Yield what the drain will do: what it costs in capacity, and its plan."""
    if not found.serving:
        return
    connections = "an unknown number of" if found.connections is None else found.connections
    yield f"{found.server} has {connections} connections; they stay, new ones go elsewhere"
    foreseen = {one.pool: one for one in found.plan.stages[0].pools} if found.plan else {}
    for pool in found.pools:
        yield (
            f"pool {pool.pool}: {pool.buckets:,} buckets move, {pool.stay} of {pool.members} "
            f"servers stay active ({pool.needed} needed), {pool.forced:,} later hops forced out"
        )
        for line in effect_lines(foreseen[pool.pool]) if pool.pool in foreseen else ():
            yield f"pool {pool.pool}: {line}"
    if found.plan:
        yield from over_lines(found.plan)
    last = [pool.pool for pool in found.pools if pool.last]
    if last:
        yield f"{found.server} is the last: {keeps_text(last)}"


def _show_json(found: DrainPreview, outcome: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**asdict(found), "outcome": outcome}, indent=2))
