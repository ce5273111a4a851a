"""What the controller hears: which reports are new, who is silent, by its own clock alone.

An agent's clock is never trusted: a report counts as heard when its (boot id, sequence) changes
under the controller's eyes. A fresh controller has heard nobody; it takes what it finds in the
store as a base line, and counts silence from its own start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Acknowledged
from controlplane.domain.objects import Report


class Watch:
    """When each server was heard last. Times are monotonic seconds, given by the caller.

    ``longest_gap_seconds``: the time that may pass between two observations and still count as
    silence. A longer gap was the controller's own (stopped, no store), not the agents'.
    """

    def __init__(self, started: float, longest_gap_seconds: float = 2.0) -> None:
        self._started = started
        self.longest_gap_seconds = longest_gap_seconds
        self._last: float | None = None
        self._marks: dict[str, tuple[str, int]] = {}
        self._heard: dict[str, float] = {}

    def observe(self, reports: Mapping[str, Report], now: float) -> None:
        """Take note of reports that are new."""
        self._forgive_own_gap(now)
        marks = {name: (report.boot_id, report.sequence) for name, report in reports.items()}
        if self._last is not None:
            for name, mark in marks.items():
                if self._marks.get(name) != mark:
                    self._heard[name] = now
        self._marks = marks
        self._last = now

    def heard(self, name: str) -> bool:
        """Whether this controller ever heard the server."""
        return name in self._heard

    def silent_seconds(self, name: str, now: float) -> float:
        """How long the server has been silent, at most since the controller's start."""
        return now - max(self._heard.get(name, self._started), self._started)

    def _forgive_own_gap(self, now: float) -> None:
        gap = now - (self._started if self._last is None else self._last)
        excess = gap - self.longest_gap_seconds
        if excess > 0:
            self._started += excess
            self._heard = {name: at + excess for name, at in self._heard.items()}


def views(  # noqa: PLR0913 - everything that is known comes together here
    names: Collection[str],
    watch: Watch,
    now: float,
    *,
    silent_after_seconds: float,
    reports: Mapping[str, Report],
    acknowledged: Acknowledged,
    probes_failed: Mapping[str, int],
    wished: Collection[str],
    configured: Collection[str],
) -> dict[str, ServerView]:
    """Put together what is known of each of ``names``."""
    found = {}
    for name in names:
        silent_seconds = watch.silent_seconds(name, now)
        silent = silent_seconds >= silent_after_seconds
        report = reports.get(name)
        found[name] = ServerView(
            name=name,
            known=report is not None or name in acknowledged,
            heard=watch.heard(name) and not silent,
            silent=silent,
            silent_seconds=silent_seconds,
            stopped=report is not None and report.stopped,
            probes_failed=probes_failed.get(name, 0),
            wished_draining=name in wished,
            configured=name in configured,
            refused_cluster=report.refused_cluster if report else 0,
        )
    return found
