"""Which reports carry a dump: reports come four times a second, and a dump may be large. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.documents.presence import Mark
from lb.agent.facts import PresenceFacts

BYTES_PER_SECOND = 4096.0
"""What dumps add to reports at most, on average."""
REPEATS = 2
"""Reports with each dump: a controller that is busy may miss one."""
IN_A_ROW = 2
"""Dumps that follow each other: one dump proves nothing."""


class Sharing:
    """Decides for one report after the other. Dumps are shared in pairs that follow each other.

    Then there is a pause, longer after larger ones. A dump with a new mark does not wait.
    """

    def __init__(self) -> None:
        self._number = 0
        self._repeats_left = 0
        self._in_a_row = 0
        self._mark: Mark | None = None
        self._next_at = 0.0

    def choose(self, presence: PresenceFacts | None, now: float) -> Mapping[str, Any] | None:
        """Return what the report of now (monotonic) has as its presence, ``None`` for nothing."""
        if presence is None:
            return None
        dump = presence.dump
        if dump.number != self._number:
            self._begin(presence, now)
        if self._repeats_left == 0:
            return None
        self._repeats_left -= 1
        return presence.body

    def _begin(self, presence: PresenceFacts, now: float) -> None:
        """Decide about a dump that no report had yet."""
        dump = presence.dump
        follows = dump.number == self._number + 1 and 0 < self._in_a_row < IN_A_ROW
        self._number = dump.number
        self._repeats_left = 0
        if not follows and now < self._next_at and dump.mark == self._mark:
            self._in_a_row = 0
            return
        self._in_a_row = self._in_a_row + 1 if follows and dump.mark == self._mark else 1
        self._mark = dump.mark
        self._repeats_left = REPEATS
        self._next_at = max(self._next_at, now) + REPEATS * presence.body_bytes / BYTES_PER_SECOND
