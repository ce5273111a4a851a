"""Which reports are new and which servers are silent, by the controller's own clock alone.

An agent's clock is never trusted: a server counts as heard when this controller sees the (boot id,
sequence) of its report change. A new controller has heard no server: the reports that it finds in
the store are its base line, and it counts silence from its own start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controlplane.decide.server_state import ServerView
from controlplane.decide.signs import DETACHED_SECONDS, NOT_READY_SECONDS
from controlplane.decide.views import Acknowledged
from controlplane.domain.objects import Report


class Heartbeats:
    """When each server was last heard. Times are monotonic seconds, given by the caller.

    ``longest_gap_seconds``: of the time between two observations, at most this counts as silence
    of the servers. The rest was the controller's own (it was stopped, or had no store).
    """

    def __init__(self, started: float, longest_gap_seconds: float = 2.0) -> None:
        self._started = started
        self.longest_gap_seconds = longest_gap_seconds
        self._last: float | None = None
        self._marks: dict[str, tuple[str, int]] = {}
        self._names: frozenset[str] | None = None
        self._heard: dict[str, float] = {}
        self._detached: dict[str, float] = {}
        self._not_ready: dict[str, float] = {}

    def observe(
        self,
        reports: Mapping[str, Report],
        now: float,
        in_use: Collection[str] = (),
        names: Collection[str] | None = None,
    ) -> None:
        """Record which reports are new.

        ``in_use``: servers that should be ready. ``names``: whose reports were read (``None``:
        all). A report that is read for the first time may be old.
        """
        self._forgive_own_gap(now)
        marks = {name: (report.boot_id, report.sequence) for name, report in reports.items()}
        if self._last is not None:
            for name, mark in marks.items():
                was_read = self._names is None or name in self._names
                if was_read and self._marks.get(name) != mark:
                    self._heard[name] = now
        self._marks = marks
        self._names = None if names is None else frozenset(names)
        self._last = now
        detached = (name for name, report in reports.items() if report.detached)
        not_ready = (n for n, report in reports.items() if n in in_use and not _is_fit(report))
        self._detached = {name: self._detached.get(name, now) for name in detached}
        self._not_ready = {name: self._not_ready.get(name, now) for name in not_ready}

    def heard(self, name: str) -> bool:
        """Whether this controller ever heard the server."""
        return name in self._heard

    def silent_seconds(self, name: str, now: float) -> float:
        """How long the server has been silent, at most since the controller's start."""
        return now - max(self._heard.get(name, self._started), self._started)

    def detached_seconds(self, name: str, now: float) -> float:
        """For how long its reports have had detached programs; 0: they are attached."""
        return now - self._detached.get(name, now)

    def not_ready_seconds(self, name: str, now: float) -> float:
        """For how long a server in use has reported that it is not ready; 0: it is ready."""
        return now - self._not_ready.get(name, now)

    def _forgive_own_gap(self, now: float) -> None:
        gap = now - (self._started if self._last is None else self._last)
        excess = gap - self.longest_gap_seconds
        if excess > 0:
            self._started += excess
            self._heard = {name: at + excess for name, at in self._heard.items()}
            self._detached = {name: at + excess for name, at in self._detached.items()}
            self._not_ready = {name: at + excess for name, at in self._not_ready.items()}


def _is_fit(report: Report) -> bool:
    """Whether a server is ready; one whose routes cannot be withdrawn may lack what it needs."""
    return report.ready and not report.missing


def server_views(  # noqa: PLR0913 - everything that is known comes together here
    names: Collection[str],
    heartbeats: Heartbeats,
    now: float,
    *,
    silent_after_seconds: float,
    reports: Mapping[str, Report],
    acknowledged: Acknowledged,
    drain_requests: Collection[str],
    configured: Collection[str],
) -> dict[str, ServerView]:
    """Return what is known of each of ``names``, apart from probes."""
    views = {}
    for name in names:
        silent_seconds = heartbeats.silent_seconds(name, now)
        silent = silent_seconds >= silent_after_seconds
        report = reports.get(name)
        detached = heartbeats.detached_seconds(name, now) >= DETACHED_SECONDS
        heard = heartbeats.heard(name) and not silent
        leaving = report is not None and report.leaving and heard
        views[name] = ServerView(
            name=name,
            known=report is not None or name in acknowledged,
            heard=heard,
            silent=silent,
            silent_seconds=silent_seconds,
            stopped=detached or (report is not None and report.stopped),
            detached=detached,
            ready=report is not None and _is_fit(report),
            not_ready=heartbeats.not_ready_seconds(name, now) >= NOT_READY_SECONDS,
            drain_requested=name in drain_requests,
            configured=name in configured,
            refused_cluster=report.refused_cluster if report else 0,
            leaving=leaving,
            withdrawn=leaving and report is not None and not report.ready,
        )
    return views


def with_probes(
    views: Mapping[str, ServerView],
    failed: Mapping[str, int],
    refused: Mapping[str, frozenset[str]],
) -> dict[str, ServerView]:
    """Return the views with how many probes in a row failed, and what refuses connections."""
    counts = {
        name: replace(
            views[name], probes_failed=count, refused_services=refused.get(name, frozenset())
        )
        for name, count in failed.items()
    }
    return {**views, **counts}
