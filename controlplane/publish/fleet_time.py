"""Fleet time: the clock that ages in tables are measured by (docs/adr/0012).

It advances with the monotonic clock of the leading controller and is stored every few seconds. The
next controller goes on from what is stored, on whatever machine and whatever its wall clock shows.
So it never goes back, and never forward by more than the time that has passed: while nobody leads,
it stands still. Ages are at most too low, which is the safe side: hops are kept longer.
"""

from __future__ import annotations

from controlplane.domain.controller_state import MAX_FLEET_SECONDS

FIRST_SECOND = 1
"""0 stands for never in tables."""


class FleetTime:
    """Fleet time, continued from ``seconds``. ``now`` is always of one clock, a monotonic one."""

    def __init__(self, seconds: float, now: float) -> None:
        self._began = now
        self._before = min(max(seconds, float(FIRST_SECOND)), float(MAX_FLEET_SECONDS))

    def at(self, now: float) -> float:
        """Return the fleet time."""
        return min(self._before + max(now - self._began, 0.0), float(MAX_FLEET_SECONDS))

    def reach(self, seconds: float, now: float) -> None:
        """Go forward to what another controller published, if that is later.

        A time that no controller can have published is ignored; ages that depend on it are 0.
        """
        if self.at(now) < seconds < MAX_FLEET_SECONDS:
            self._before, self._began = seconds, now
