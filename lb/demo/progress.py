"""Prints the progress of the demo, its results, and the final table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lb.demo.results import Findings, StepResult

BAR_COLUMNS = 40
LOG_COLUMNS = 110


class ProgressLog:
    """Prints to standard error, so that standard output is free for `--json -`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _console()
        self._begun = time.monotonic()

    def heading(self, title: str) -> None:
        """Print the heading of a step."""
        self._console.rule(f"[bold]{escape(title)}", align="left")

    def log(self, text: str) -> None:
        """Print a line with the time since the start."""
        self._console.print(f"[dim]{time.monotonic() - self._begun:6.1f} s[/]  {escape(text)}")

    @contextmanager
    def task(self, text: str) -> Iterator[None]:
        """Show what the demo does, until the context ends."""
        self.log(f"{text} ...")
        with self._console.status(escape(text)):
            yield

    def result(self, result: StepResult) -> None:
        """Print the result of a step."""
        mark = "[green]as promised[/]" if result.ok else "[bold red]PROMISE BROKEN[/]"
        self._console.print(f"          [bold]{result.name}[/]: {mark}: {escape(result.shown)}")
        for failure in result.failures:
            self._console.print(f"          [red]- {escape(failure)}[/]")

    def bars(self, title: str, utilisation: Mapping[str, float]) -> None:
        """Draw how busy each server is."""
        self._console.print(f"          {escape(title)}")
        for server, value in sorted(utilisation.items()):
            filled = round(min(1.0, value) * BAR_COLUMNS)
            bar = "█" * filled + "░" * (BAR_COLUMNS - filled)
            self._console.print(f"          {server:8} {bar} {value:6.1%}")

    def summary(self, findings: Findings) -> None:
        """Print the final table."""
        table = Table(
            title="What was measured", title_justify="left", box=box.SIMPLE, pad_edge=False
        )
        table.add_column("step", no_wrap=True)
        for column in ("TCP", "UDP", "broken", "expected", "chained", "seconds"):
            table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
        table.add_column("promise", no_wrap=True)
        for step in findings.steps:
            table.add_row(
                step.name,
                f"{step.tcp_open}",
                f"{step.udp_open}",
                f"{step.broken}",
                _expected(step),
                f"{step.daisy_chained}",
                f"{step.seconds:.1f}",
                _promise(step),
            )
        self._console.print(table)
        self._console.print(
            "TCP and UDP: flows open at the event. Chained: packets passed on to a later hop. "
            "Controls run without chaining or without the controller: they must fail.",
            style="dim",
        )
        verdict = "every promise kept" if findings.ok else "[bold red]a promise was broken[/]"
        self._console.print(f"{verdict}, in {findings.seconds:.0f} s")

    def print_lines(self, lines: list[str]) -> None:
        """Print lines without changes, so that they can be pasted into a shell."""
        for line in lines:
            self._console.print(line, soft_wrap=True, markup=False)


def _console() -> Console:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        # A log file has no width of its own: use one that the table fits into.
        console.width = LOG_COLUMNS
    return console


def _promise(step: StepResult) -> str:
    if not step.ok:
        return "[bold red]BROKEN[/]"
    return "[green]control[/]" if step.control else "[green]kept[/]"


def _expected(step: StepResult) -> str:
    if not step.control:
        return f"{step.broken_expected}"
    return "-" if step.name == "balance_frozen" else "some"
