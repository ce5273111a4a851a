"""What a new agent leaves as the agent before it made it, for a limited time. Pure.

While an agent restarts, its programs forward and its routes stay announced. The new agent withdraws
nothing before it knows better: routers would move traffic away and back.
"""

from __future__ import annotations

OVERDUE_SECONDS = 60.0
ADAPTING_SECONDS = 10.0
OVERDUE = (
    f"not attached after {OVERDUE_SECONDS:g} s: forwarding and routes are as the agent before left "
    "them, with its last table; see the other troubles"
)


class TakeOver:
    """How far the take-over is. ``announced``: the agent before made this server ready.

    Times are monotonic seconds.
    """

    def __init__(self, started: float, *, announced: bool) -> None:
        self._announced = announced
        self._started = started
        self._attached_at: float | None = None

    def attached(self, now: float) -> None:
        """Note that this agent's programs are attached."""
        self._attached_at = now

    def overdue(self, now: float) -> bool:
        """Whether this agent should have attached its programs by now."""
        return self._attached_at is None and now - self._started >= OVERDUE_SECONDS

    def adapting(self, now: float) -> bool:
        """Whether what the agent before made still serves, until this one has adapted it."""
        if not self._announced or self._attached_at is None:
            return False
        return now - self._attached_at < ADAPTING_SECONDS
