"""Whether each fault is reported by name, where, and after which time. Pure.

A fault is reported when a line names it that was not there before: in the log of a server's agent
or of the controller (warnings and errors only), as a TROUBLE in that server's status, or in what
`lbctl servers` prints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lb.demo.results import StepResult

REPORTED_SECONDS_MAX = 3.0
LEVELS = frozenset({"warning", "error", "critical"})


@dataclass(frozen=True)
class Sign:
    """A line that reports a fault: ``pattern`` is found in a line of ``source``."""

    source: str
    pattern: str


@dataclass
class Alarm:
    """A fault, and its signs. Times are monotonic; `since` is when it was caused."""

    name: str
    signs: tuple[Sign, ...]
    since: float | None = None
    at: float | None = None
    by: str = ""
    line: str = ""

    @property
    def seconds(self) -> float | None:
        """Time from the fault to its report, None if it was not reported."""
        return None if self.since is None or self.at is None else self.at - self.since


class Alarms:
    """All faults of an event, and the lines that were there before."""

    def __init__(self, alarms: Iterable[Alarm]) -> None:
        self.alarms = {alarm.name: alarm for alarm in alarms}
        self._before: dict[str, frozenset[str]] = {}

    def sources(self) -> set[str]:
        """Return the sources that can still report something."""
        return {sign.source for alarm in self.pending() for sign in alarm.signs}

    def ignore(self, source: str, lines: Iterable[str]) -> None:
        """Record the lines that a log has before the faults: they report none of them."""
        self._before[source] = frozenset(lines)

    def baseline(self, source: str, lines: Iterable[str]) -> None:
        """Record what a source that shows the present has before the faults.

        Raises:
            ValueError: a line reports a fault that is not there.

        """
        self.ignore(source, lines)
        for alarm in self.alarms.values():
            if line := _found(alarm, source, self._before[source]):
                raise ValueError(f"{alarm.name!r} is reported before it happens: {line}")

    def caused(self, name: str, now: float) -> None:
        """Record that a fault was caused just now."""
        self.alarms[name].since = now

    def pending(self) -> list[Alarm]:
        """Return the faults that are there and not reported yet."""
        return [a for a in self.alarms.values() if a.since is not None and a.at is None]

    def observe(self, source: str, lines: Iterable[str], now: float) -> None:
        """Look for pending faults in the lines that a source has now."""
        new = frozenset(lines) - self._before.get(source, frozenset())
        for alarm in self.pending():
            if line := _found(alarm, source, new):
                alarm.at, alarm.by, alarm.line = now, source, line

    def judge(self, result: StepResult) -> None:
        """Each fault must have been reported in time."""
        for alarm in self.alarms.values():
            took = alarm.seconds
            result.promise(took is not None, f"not reported by anything: {alarm.name}")
            late = took is not None and took > REPORTED_SECONDS_MAX
            result.promise(not late, f"reported only after {took or 0:.1f} s: {alarm.name}")

    def as_json(self) -> Mapping[str, object]:
        """Return seconds and source of each report, by fault."""
        return {
            alarm.name: {
                "seconds": None if alarm.seconds is None else round(alarm.seconds, 2),
                "by": alarm.by,
            }
            for alarm in self.alarms.values()
        }

    def lines(self) -> list[str]:
        """Return a line for people for each fault."""
        return [
            f"{a.name}: not reported"
            if a.seconds is None
            else f"{a.name}: reported after {a.seconds:.1f} s by the {a.by}"
            for a in self.alarms.values()
        ]


def _found(alarm: Alarm, source: str, lines: Iterable[str]) -> str:
    for sign in alarm.signs:
        if sign.source == source:
            for line in lines:
                if re.search(sign.pattern, line):
                    return line
    return ""


def warnings_in(log: str) -> list[str]:
    """Return the lines of a JSON log that are warnings or errors."""
    found = []
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in LEVELS:
            found.append(line)
    return found
