"""Prints a plan for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from rich.table import Column, Table

from controlplane.decide.plan.objects import Knowledge, LostPlan, Plan, PoolPlan, StagePlan
from controlplane.domain.errors import BrigadeError, ExitCode
from lb.cli._show import show_whole

NAMED = 8
"""Servers that a line names."""
OLD_SECONDS = 30.0
"""A controller that leads writes its decisions at least every 10 s."""
MOST_SERVERS = 20
"""Rows of the table of servers; ``--json`` has all of them."""


yes_option = click.option(
    "--yes", is_flag=True, help="Continue without asking where connections would be lost."
)


def show_plan(plan: Plan) -> None:
    """Print a plan: its steps, each server's part afterwards, and what it is based on."""
    for line in stage_lines(plan):
        click.echo(line)
    show_servers(plan)
    for line in knowledge_lines(plan.knowledge):
        click.echo(line)
    for note in plan.notes:
        click.echo(f"note: {note}")


def stage_lines(plan: Plan) -> Iterator[str]:
    """Yield the steps of a plan, each with what it does in every pool."""
    for stage in plan.stages:
        yield f"{plan.server} {stage.what}: {_time(stage)}"
        if stage.waits_for != 0:
            count = "unknown number of" if stage.waits_for is None else f"{stage.waits_for:,}"
            yield f"  its {count} connections stay, new ones go elsewhere"
        for pool in stage.pools:
            for line in _pool_lines(plan.server, pool):
                yield f"  pool {pool.pool}: {line}"


def ask_if_lost(plan: Plan | None) -> None:
    """Ask, on a terminal, whether to go on although connections would be lost.

    Raises:
        BrigadeError: exit code 3, the person declines.

    """
    if plan is None or plan.lost == 0 or not sys.stdin.isatty():
        return
    lost = "an unknown number of" if plan.lost is None else f"about {plan.lost:,}"
    if not click.confirm(f"{lost} connections would be lost: go on?", err=True):
        raise BrigadeError(f"{plan.server} stays as it is, as you declined", ExitCode.REFUSED)


def _time(stage: StagePlan) -> str:
    seconds = f"{stage.seconds:.1f}" if stage.seconds < 1 else f"{stage.seconds:.0f}"
    return f"{stage.generations} generations, at least {seconds} s ({stage.bound})"


def _pool_lines(server: str, pool: PoolPlan) -> Iterator[str]:
    if pool.nobody:
        yield f"NO OTHER SERVER can take the buckets of {server}: they stay"
    else:
        anyway = f" ({pool.anyway:,} would move anyway)" if pool.anyway else ""
        yield f"{pool.buckets:,} buckets move{anyway}, {pool.forced:,} later hops forced out"
    yield from effect_lines(pool)


def effect_lines(pool: PoolPlan) -> Iterator[str]:
    """Yield what a step does to a pool's connections, and what it waits for."""
    if pool.chained_buckets:
        yield chained_text(pool)
    if pool.held_back:
        yield (
            f"{pool.held_back:,} more wait up to {pool.full_seconds:.0f} s for chains to have space"
        )
    if pool.unplaced:
        yield f"{pool.unplaced:,} buckets EXCEED the caps of their servers"
    for one in pool.lost:
        yield lost_text(one)


def chained_text(pool: PoolPlan) -> str:
    """Return what is passed on, and how much traffic that is."""
    if pool.chained is None:
        part = f"up to {pool.chained_part:.0%} of the pool's traffic"
        return f"the connections of {pool.chained_buckets:,} buckets are passed on, {part}"
    return (
        f"about {pool.chained:,} connections are passed on, {pool.chained_part:.0%} of the pool's"
    )


def lost_text(one: LostPlan) -> str:
    """Return which connections would be lost."""
    if one.connections is None:
        return f"LOST: what {one.server} has in {one.hops:,} buckets: {one.cause.value}"
    count = f"about {one.connections:,} connections"
    return f"LOST: {count} of {one.server} in {one.hops:,} buckets: {one.cause.value}"


def show_servers(plan: Plan) -> None:
    """Print each server's part of the pools and load, now and then."""
    pools = sorted({pool for server in plan.servers for pool in server.part})
    columns = [Column(f"pool {pool}", justify="right") for pool in pools]
    rows = Table("server", *columns, Column("load", justify="right"), "", box=None, pad_edge=False)
    shown = sorted(plan.servers, key=lambda one: (not one.over, one.server))[:MOST_SERVERS]
    for one in shown:
        parts = [
            f"{one.part[pool]:.1%} -> {one.part_then[pool]:.1%}" if pool in one.part else "-"
            for pool in pools
        ]
        over = f"OVER {', '.join(one.over)}" if one.over else ""
        rows.add_row(one.server, *parts, f"{_load(one.load)} -> {_load(one.load_then)}", over)
    show_whole(rows)
    if len(plan.servers) > MOST_SERVERS:
        click.echo(f"and {len(plan.servers) - MOST_SERVERS} servers more (--json)")


def over_lines(plan: Plan) -> Iterator[str]:
    """Yield the servers that would exceed something."""
    for one in plan.servers:
        if one.over:
            yield f"{one.server} would be OVER {', '.join(one.over)}"


def _load(load: float | None) -> str:
    return "?" if load is None else f"{load:.2f}"


def knowledge_lines(known: Knowledge) -> Iterator[str]:
    """Yield what the plan is based on, and how old that is."""
    if known.presence:
        age = "of unknown age"
        if known.presence_seconds is not None:
            age = f"at most {known.presence_seconds:.0f} s old"
        yield f"based on: where {known.presence} servers have connections, {age}"
    if known.assumed:
        more = len(known.assumed) - NAMED
        names = ", ".join(known.assumed[:NAMED]) + (f" and {more} more" if more > 0 else "")
        yield f"assumed to have connections everywhere, none reported by bucket: {names}"
    if known.decided_seconds is None:
        yield "warning: the controller has published no shares yet: equal ones are assumed"
    elif known.decided_seconds > OLD_SECONDS:
        yield f"warning: the controller decided the shares {known.decided_seconds:.0f} s ago"
