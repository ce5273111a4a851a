"""Prints tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

LINE_COLUMNS = 500
"""No table is wider than this."""


def show_whole(table: Table, console: Console | None = None) -> None:
    """Print a table at its full width: a shortened name can be neither copied nor grepped."""
    console = console or Console()
    options = console.options.update(max_width=LINE_COLUMNS)
    console.width = max(console.width, Measurement.get(console, options, table).maximum)
    console.print(table)
