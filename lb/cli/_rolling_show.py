"""Prints a rolling run: a live line for each server on a terminal, else lines as things happen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import click

from controlplane.operator.rolling import journal
from controlplane.operator.rolling.facts import Phase, Turn
from controlplane.operator.rolling.words import duration_text, progress_line

if TYPE_CHECKING:
    from rich.live import Live

PRINT_SECONDS = 10.0
"""How often a line that is not on a terminal repeats what a server waits for."""
TEXTS = {
    journal.DRAIN: "drain requested",
    journal.HELD: "its drain is held back",
    journal.COMMAND: "command begins, {connections} connections left",
    journal.ENDED: "command ended with {code}",
    journal.SKIPPED: "command skipped",
    journal.UNDRAIN: "drain cancelled",
    journal.DONE: "done",
}


class Show:
    """Shows events and progress. Use it as a context: it ends the live lines."""

    def __init__(self, *, as_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._json = as_json
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._printed: dict[str, str] = {}
        self._next = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._json and sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the live lines; what comes is printed below them."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        """Print a line for people."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self._json:
            click.echo(text)

    def event(self, event: dict[str, Any]) -> None:
        """Print an event of the journal."""
        if self._json:
            click.echo(json.dumps(event, ensure_ascii=False))
            return
        name, what = event.get("server", ""), event["event"]
        if what == journal.FOUND:
            self._found(event)
        if what == journal.DRAIN:
            self._begun[name] = self._clock()
        if what not in TEXTS:
            return
        text = TEXTS[what].format_map(event)
        if what == journal.DONE and name in self._begun:
            text += f" after {duration_text(self._clock() - self._begun[name])}"
        if self._live is None or what == journal.DONE:
            self.line(f"{name} {text}")

    def _found(self, event: dict[str, Any]) -> None:
        if event["unprobed"]:
            self.line(f"not probed through the tunnel: {event['unprobed']}")
        for sign in event["already"]:
            self.line(f"already so, stops nothing: {sign}")

    def progress(self, turns: Sequence[Turn]) -> None:
        """Show what the servers wait for whose turn it is."""
        now = self._clock()
        shown = [turn for turn in turns if turn.phase not in (Phase.WAITING, Phase.DONE)]
        # Nobody's turn: the next one waits for a guard.
        shown = shown or [turn for turn in turns if turn.phase is Phase.WAITING][:1]
        if self._live is not None:
            from rich.text import Text

            lines = [progress_line(turn, now) for turn in shown]
            done = sum(turn.phase is Phase.DONE for turn in turns)
            self._live.update(Text("\n".join([*lines, f"{done} of {len(turns)} done"])))
        elif not self._json and now >= self._next:
            self._next = now + PRINT_SECONDS
            self._print(shown, now)

    def _print(self, turns: Sequence[Turn], now: float) -> None:
        for turn in turns:
            text = f"{turn.phase.value} {turn.text}"
            if turn.text and self._printed.get(turn.name) != text:
                self._printed[turn.name] = text
                self.line(progress_line(turn, now))
