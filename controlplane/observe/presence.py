"""The last dumps of each server's sockets, from its reports.

What is kept is what was reported, some hundred bytes a server; it is decoded when somebody asks. A
presence that cannot be read is refused and counted; the rest of its report is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from controlplane.documents.fields import DocumentError
from controlplane.documents.presence import Dump, decode_presence
from controlplane.domain.objects import Report

KEPT = 2
"""Dumps that follow each other: one dump proves nothing."""


@dataclass(frozen=True)
class SeenDumps:
    """The last dumps of one run of an agent, the oldest first: at most two."""

    boot_id: str
    dumps: tuple[Dump, ...]


@dataclass(frozen=True)
class _Seen:
    boot_id: str
    numbers: tuple[int, ...]
    bodies: tuple[object, ...]
    at: float | None = None


class Presence:
    """Reads the presence of new reports. For one thread.

    ``refused`` counts those that could not be read, by server, since the start.
    """

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self._began = False
        self._seen: dict[str, _Seen] = {}
        self._read: dict[str, tuple[str, int]] = {}

    def observe(self, reports: Mapping[str, Report], now: float = 0.0) -> None:
        """Take what is new in reports; ``now`` is monotonic.

        Servers without a report are forgotten.
        """
        for known in (self._seen, self._read, self.refused):
            for name in known.keys() - reports.keys():
                del known[name]
        for name, report in reports.items():
            if report.presence is None or self._read.get(name) == (report.boot_id, report.sequence):
                continue
            self._read[name] = report.boot_id, report.sequence
            self.refused.setdefault(name, 0)
            try:
                self._add(name, report, now if self._began else None)
            except DocumentError as error:
                self.refused[name] += 1
                structlog.get_logger().warning("presence refused", about=name, reason=str(error))
        self._began = True

    def of(self, server: str) -> SeenDumps | None:
        """Return the last dumps of a server, ``None`` if it has reported none."""
        seen = self._seen.get(server)
        if seen is None:
            return None
        return SeenDumps(seen.boot_id, tuple(map(decode_presence, seen.bodies)))

    def newest(self) -> dict[str, tuple[float | None, object]]:
        """Return the last dump of each server: when it was first seen, and as it was reported.

        ``None``: it was there already when this was first asked, and may be old.
        """
        return {name: (seen.at, seen.bodies[-1]) for name, seen in self._seen.items()}

    def _add(self, name: str, report: Report, at: float | None) -> None:
        """Keep a dump that is new. Raises ``DocumentError``: it cannot be read."""
        before = self._seen.get(name)
        if before is not None and before.boot_id == report.boot_id:
            number = report.presence.get("number") if isinstance(report.presence, dict) else None
            if number == before.numbers[-1]:
                return  # each dump is in several reports
            if type(number) is int and number < before.numbers[-1]:
                raise DocumentError("out_of_range", f"presence of {name} went back to {number}")
        else:
            before = _Seen(report.boot_id, (), ())
        dump = decode_presence(report.presence)
        self._seen[name] = _Seen(
            report.boot_id,
            (*before.numbers, dump.number)[-KEPT:],
            (*before.bodies, report.presence)[-KEPT:],
            at,
        )
