"""Rise and fall: how many equal results in a row change the verdict on a service."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class RiseFall:
    """The verdict on one service after some checks. Pure: ``observe`` returns the next state.

    ``healthy`` is ``None`` until ``rise`` good or ``fall`` bad checks in a row: a service that was
    never checked is not failing. ``reason`` is that of the last bad check while unhealthy.
    """

    rise: int
    fall: int
    healthy: bool | None = None
    streak: int = 0
    last: bool | None = None
    reason: str = ""

    def observe(self, *, good: bool, reason: str = "") -> RiseFall:
        """Return the state after one more check."""
        streak = self.streak + 1 if good == self.last else 1
        healthy = self.healthy
        if streak >= (self.rise if good else self.fall):
            healthy = good
        last_reason = self.reason if good else reason
        kept = last_reason if healthy is False else ""
        return replace(self, healthy=healthy, streak=streak, last=good, reason=kept)
