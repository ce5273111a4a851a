"""What follows from looks at one thing: when it may be put back, when the server is not fit. Pure.

Times are seconds of a monotonic clock, and come as arguments.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

BURST = 5
"""As many repairs in a window are made at once. From then on somebody works against us."""
WINDOW_SECONDS = 60.0
PACE_SECONDS = 2.0
"""Between repairs beyond the burst, and after one that failed."""
SETTLE_SECONDS = 2.0
"""For how long a thing has to be in place before it counts as such again."""
CALM_SECONDS = 30.0
"""The same, if somebody works against us."""


@dataclass
class History:
    """The looks at one thing, and its repairs.

    ``broken`` is whether the thing is missing, or has not been back for long enough. It becomes so
    after ``patience_seconds`` of looks without a good one.
    """

    patience_seconds: float = 0.0
    broken: bool = False
    _repairs: deque[float] = field(default_factory=deque)
    _not_before: float = float("-inf")
    _missing_since: float | None = None
    _fine_since: float | None = None

    def may_repair(self, now: float) -> bool:
        """Whether a repair may be tried now: the first ones at once, then at a bounded rate."""
        return now >= self._not_before

    def note_repair(self, now: float, *, done: bool) -> None:
        """Remember a repair, or an attempt that failed."""
        if done:
            self._repairs.append(now)
        if not done or self.repairs(now) >= BURST:
            self._not_before = now + PACE_SECONDS

    def repairs(self, now: float) -> int:
        """Return how many repairs there were in the last window."""
        while self._repairs and self._repairs[0] <= now - WINDOW_SECONDS:
            self._repairs.popleft()
        return len(self._repairs)

    def is_contested(self, now: float) -> bool:
        """Whether somebody removes the thing again and again."""
        return self.repairs(now) >= BURST

    def observe(self, now: float, *, fine: bool) -> None:
        """Take the result of a look, after a repair if there was one."""
        if not fine:
            self._fine_since = None
            if self._missing_since is None:
                self._missing_since = now
            self.broken |= now - self._missing_since >= self.patience_seconds
            return
        self._missing_since = None
        if not self.broken:
            return
        if self._fine_since is None:
            self._fine_since = now
        self.broken = now - self._fine_since < self.wait_seconds(now)

    def wait_seconds(self, now: float) -> float:
        """Return for how long a thing that is back has to stay."""
        return CALM_SECONDS if self.is_contested(now) else SETTLE_SECONDS
