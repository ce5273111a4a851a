"""The command `lbctl table`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Column, Table

from lb.cli._options import config_option, json_option
from lb.cli._show import show_whole

if TYPE_CHECKING:
    from lb.cli._table_summary import TableSummary

BAR_WIDTH = 24
MOVED_ONCE = 2
"""Servers in the chain of a bucket that moved once. In pools of this depth, all transitions are."""


def bar(share: float, largest: float) -> str:
    """Draw a share, the largest one at full width."""
    return "█" * round(BAR_WIDTH * share / largest) if largest else ""


def transitions(summary: TableSummary) -> str:
    """Return the number of buckets in transition and, at depths above 2, the chain lengths."""
    lengths = enumerate(summary.lengths[1:], start=2)
    lengths_text = ", ".join(f"{count} of {length}" for length, count in lengths if count)
    return f"{summary.transitions} in transition" + (
        f" (chains: {lengths_text})" if lengths_text and summary.depth > MOVED_ONCE else ""
    )


def last_move(moved_at: int, fleet_seconds: float | None) -> str:
    """Return when a bucket last moved. Tables have fleet time, which only controllers keep.

    ``fleet_seconds``: now, as far as this server can know.
    """
    if not moved_at:
        return "no moves yet"
    if fleet_seconds is None:
        return "last move at an unknown time"
    age = fleet_seconds - moved_at
    if age < 0:
        return "last move a moment ago"
    return f"last move {age:.0f} s ago"


def show(console: Console, summary: TableSummary, fleet_seconds: float | None) -> None:
    """Print one table's summary."""
    when = last_move(summary.last_moved_at, fleet_seconds)
    console.print(
        f"[bold]{summary.pool}[/bold]  generation {summary.generation}, on cluster generation "
        f"{summary.cluster_generation}; {summary.buckets} buckets, depth {summary.depth}; "
        f"{transitions(summary)}; {when}",
        soft_wrap=True,
    )
    numbers = (Column(heading, justify="right") for heading in ("buckets", "share", "later hop"))
    rows = Table("server", "DIP", "state", *numbers, "", box=None, pad_edge=False)
    largest = max((row.share for row in summary.rows), default=0.0)
    for row in summary.rows:
        rows.add_row(
            row.server,
            row.dip,
            row.state,
            str(row.current),
            f"{row.share:.1%}",
            str(row.later),
            bar(row.share, largest),
        )
    show_whole(rows, console)
    if summary.empty:
        console.print(f"[red]{summary.empty} buckets are empty: their packets are dropped[/red]")


@click.command(
    epilog="Exit codes: 0 success, 1 no documents here, 2 no such pool or wrong configuration."
)
@click.argument("pool", required=False)
@config_option
@json_option
def command(pool: str | None, config: Path, as_json: bool) -> None:
    """Show the forwarding tables that this server last used."""
    from controlplane.domain.errors import UsageError
    from lb.agent.config import load_agent_config
    from lb.agent.documents.last_good import load_last_good
    from lb.cli._table_summary import summarise

    saved = load_last_good(load_agent_config(config))
    if pool is not None and pool not in saved.tables:
        have = ", ".join(sorted(saved.tables)) or "none"
        raise UsageError(f"pool {pool!r} has no table here; there are: {have}")
    wanted = [pool] if pool else sorted(saved.tables)
    summaries = [summarise(saved.tables[name], saved.cluster) for name in wanted]
    if as_json:
        cluster = saved.cluster.generation
        tables = [asdict(summary) for summary in summaries]
        click.echo(json.dumps({"cluster_generation": cluster, "tables": tables}))
        return
    for summary in summaries:
        show(Console(), summary, saved.fleet_seconds)
