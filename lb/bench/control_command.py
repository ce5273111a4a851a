"""The command `lbctl bench control`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lb.bench.control import OTHER_SIZES, POOLS, SIZE, Row, measure, measure_pools

MEANINGS = {
    "cold": "the first table of a pool",
    "one_died": "a server died: its buckets move at once",
    "all_shares_changed": "every share changed: moves are prepared",
    "nothing_changed": "nothing changed",
}


@click.command(epilog="Exit codes: 0 success, 1 failed, 2 wrong usage.")
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="Write the result as JSON to this file; - is standard output.",
)
@click.option("--quick", is_flag=True, help="Run fewer rounds, with one size.")
def command(json_file: str | None, quick: bool) -> None:  # noqa: FBT001 (click passes a flag so)
    """Measure the time and the memory of building a table."""
    rows = measure(rounds=5) if quick else measure()
    others = [] if quick else [row for size in OTHER_SIZES for row in measure(size, rounds=5)]
    pools_ms = measure_pools()
    text = json.dumps(as_json(rows, others, pools_ms), indent=2)
    if json_file == "-":
        click.echo(text)
        return
    if json_file is not None:
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    show(rows, others, pools_ms)


def as_json(rows: Sequence[Row], others: Sequence[Row], pools_ms: float) -> dict[str, Any]:
    """Return all results as values for JSON; `rows`, at one size, keeps its format."""
    return {
        "rows": [_rounded(row) for row in rows],
        "other_sizes": [_rounded(row) for row in others],
        "pools": {"pools": POOLS, "total_ms": round(pools_ms, 1)},
    }


def _rounded(row: Row) -> dict[str, Any]:
    return asdict(row) | {
        "median_ms": round(row.median_ms, 3),
        "peak_mib": round(row.peak_mib, 2),
    }


def show(rows: Sequence[Row], others: Sequence[Row], pools_ms: float) -> None:
    """Print a table for people."""
    from rich.console import Console  # noqa: PLC0415 (only for the table)
    from rich.table import Table  # noqa: PLC0415 (the same)

    table = Table("situation", title="One build of a pool's table", title_justify="left")
    for heading in ("buckets", "servers", "median ms", "peak MiB"):
        table.add_column(heading, justify="right")
    for row in (*rows, *others):
        table.add_row(
            MEANINGS[row.name],
            f"{row.buckets:,}",
            f"{row.servers:,}",
            f"{row.median_ms:.2f}",
            f"{row.peak_mib:.1f}",
        )
        if row.name == "nothing_changed":
            table.add_section()
    console = Console()
    console.print(table)
    console.print(
        f"{POOLS} pools of {SIZE[0]:,} buckets over {SIZE[1]:,} servers, all shares changed: "
        f"{pools_ms:.0f} ms in total."
    )
