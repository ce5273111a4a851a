"""The time that packets in flight are given to leave what is about to be rewritten."""

from __future__ import annotations

import time
from collections.abc import Callable

GRACE_SECONDS = 0.1


class Grace:
    """Remembers since when something is no longer selected.

    A program runs for microseconds, and the kernel does not preempt it for long: 100 ms after the
    word that selected it was overwritten, no packet reads a spare any more.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._free_at = float("-inf")

    def begin(self) -> None:
        """It has just been deselected."""
        self._free_at = self._clock() + GRACE_SECONDS

    def wait(self) -> None:
        """Return once it may be written again."""
        while (left := self._free_at - self._clock()) > 0:
            self._sleep(left)
