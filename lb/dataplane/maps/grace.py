"""How long to wait until no packet in flight reads old data, before it is overwritten."""

from __future__ import annotations

import time
from collections.abc import Callable

GRACE_SECONDS = 0.1


class Grace:
    """The grace period of one spare: starts when packets stop to select it.

    A program runs for microseconds, and the kernel does not preempt it for long: 100 ms after the
    word that selected a spare was overwritten, no packet reads it any more.
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
        """Start the period: the spare has just been deselected."""
        self._free_at = self._clock() + GRACE_SECONDS

    def wait(self) -> None:
        """Return when the period is over: the spare may be written."""
        while (left := self._free_at - self._clock()) > 0:
            self._sleep(left)
