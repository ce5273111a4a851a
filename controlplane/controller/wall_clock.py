"""Notices that the wall clock of this machine was stepped, for people: no age is measured by it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

STEP_SECONDS = 5.0
"""A clock that is slewed differs by less from one round to the next."""


class WallClock:
    """Compares the wall clock with the monotonic one. For one thread."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._offset: float | None = None
        self._log = structlog.get_logger()

    def look(self) -> float:
        """Log a step since the last look; return its seconds, 0 for none. Negative: backwards."""
        offset = self._wall() - self._steady()
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) < STEP_SECONDS:
            return 0.0
        self._log.warning(
            "the clock of this machine was stepped",
            seconds=round(offset - before, 1),
            detail="no age depends on it; times in logs and the dates of certificates do: look at "
            "its time service (chronyc tracking, timedatectl)",
        )
        return offset - before
