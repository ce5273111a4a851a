"""Which orphans a report names: a bounded number, each for a moment. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from controlplane.domain.objects import FlowName

MOST_NAMED = 32
"""Flows that one report names."""
MOST_WAITING = 1024
"""Flows that wait for a report; more are counted, and not named."""
NAMED_SECONDS = 2.0
"""For how long each is named: a controller that is busy may miss a report."""


class Outbox:
    """Flows in the order in which they came, each with the time until which it is named."""

    def __init__(self) -> None:
        self._waiting: deque[FlowName] = deque()
        self._named: dict[FlowName, float] = {}

    def add(self, names: Iterable[FlowName]) -> None:
        """Have these named."""
        for name in names:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(name)

    def choose(self, now: float) -> tuple[FlowName, ...]:
        """Return what a report of now (monotonic) names."""
        self._named = {name: until for name, until in self._named.items() if until > now}
        while self._waiting and len(self._named) < MOST_NAMED:
            self._named.setdefault(self._waiting.popleft(), now + NAMED_SECONDS)
        return tuple(self._named)
