"""The result of `lbctl bench control`, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from lb.bench.control import POOLS, SIZE, Row

MEANINGS = {
    "cold": "the first table of a pool",
    "one_died": "a server died: its buckets move at once",
    "all_shares_changed": "every share changed: moves are prepared",
    "nothing_changed": "nothing changed",
}


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
    numbers = (
        Column(heading, justify="right")
        for heading in ("buckets", "servers", "median ms", "peak MiB")
    )
    table = Table("situation", *numbers, title="One build of a pool's table", title_justify="left")
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
