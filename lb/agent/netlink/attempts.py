"""When to request the resolution of addresses that nobody answers for: ever more seldom. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from lb.agent.netlink.next_hops import Hop

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
"""The kernel sends three requests at each attempt, one a second."""


class Attempts:
    """Remembers what was requested, and doubles the pause until it is requested again."""

    def __init__(self) -> None:
        self._due: dict[Hop, tuple[float, float]] = {}

    def start_anew(self) -> None:
        """Forget all attempts: what was in vain may succeed now."""
        self._due.clear()

    def take_due(self, missing: Collection[Hop], now: float) -> list[Hop]:
        """Return which of the missing addresses to request now; all others are forgotten."""
        self._due = {hop: due for hop, due in self._due.items() if hop in missing}
        chosen: list[Hop] = []
        for hop in missing:
            at, pause = self._due.get(hop, (now, FIRST_SECONDS))
            if at <= now:
                chosen.append(hop)
                self._due[hop] = now + pause, min(LONGEST_SECONDS, 2 * pause)
        return chosen

    @property
    def next_at(self) -> float:
        """When an attempt is due, infinity for never."""
        return min((at for at, _ in self._due.values()), default=math.inf)
