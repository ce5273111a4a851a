"""Measure the cost of a packet, or of a table."""

from __future__ import annotations

from pathlib import Path

from lb.cli._lazy import LazyGroup

command = LazyGroup(
    name="bench",
    package="lb.bench",
    folder=Path(__file__).parents[1] / "bench",
    suffix="_command",
    help=__doc__,
    epilog="Exit codes: 0 success, 1 failed, 2 wrong usage.",
)
