"""A pool's shares over time: equal, or following load; slow start; frozen when in doubt."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.objects import ServerState
from controlplane.states import SERVING


class Balance:
    """Remembers one pool's shares by DIP index."""

    def __init__(self) -> None:
        self.shares: dict[int, float] = {}

    def update(
        self,
        states: Mapping[int, ServerState],
        ramps: Mapping[int, float],
    ) -> None:
        """Set the shares: 1.0, times the ramp of a joining server (0 to 1)."""
        self.shares = {
            index: ramps.get(index, 1.0) for index, state in states.items() if state in SERVING
        }
