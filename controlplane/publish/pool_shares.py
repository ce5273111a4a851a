"""A pool's shares and caps over time: the state between the pure steps of ``decide``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from controlplane.decide.caps import connection_caps, smoothed, steady
from controlplane.decide.shares import Shares, ShareSettings, adjust
from controlplane.decide.views import PoolView
from controlplane.domain.objects import ServerState
from controlplane.settings.models import PoolConfig

AGENTS = ShareSettings()
PROMETHEUS = ShareSettings(saturated_at=math.inf, idle_below=0.0)
"""The values of a query need not be parts of a capacity."""


class Balance:
    """One pool's shares and caps. ``known``: the full shares that another controller stored."""

    def __init__(self, known: Mapping[int, float] = MappingProxyType({})) -> None:
        self._known = known
        self._kept: Shares | None = None
        self._states: Mapping[int, ServerState] = {}
        self._connections: float | None = None
        self.caps: Mapping[int, int] = {}

    @property
    def shares(self) -> Mapping[int, float]:
        """Relative shares by DIP index, of servers that may be given buckets."""
        return self._kept.shares if self._kept else {}

    @property
    def full(self) -> Mapping[int, float]:
        """The same without slow start, also of servers that may not be given buckets now."""
        return self._kept.full if self._kept else self._known

    def stale(self, states: Mapping[int, ServerState]) -> bool:
        """Whether the shares were made for other states: a newcomer would get the mean share."""
        return self._kept is None or states != self._states

    def update(self, config: PoolConfig, view: PoolView, now: float) -> None:
        """Step to ``now`` (monotonic). A new controller begins with the shares that are stored.

        Never with what the table has: a server in slow start would keep a few buckets for ever.
        """
        before = self._kept or Shares(full=self._known)
        loads = {} if view.frozen else view.loads
        if config.balance == "equal":
            before, loads = Shares(), {}
        kind = PROMETHEUS if config.load == "prometheus" else AGENTS
        settings = replace(kind, gain_per_second=config.balance_gain)
        self._kept = adjust(before, replace(view, loads=loads), now, settings)
        self._states = dict(view.states)
        self._cap(view)

    def _cap(self, view: PoolView) -> None:
        if not view.limits:
            self.caps, self._connections = {}, None
            return
        if view.frozen:
            return
        newest = sum(view.connections.get(index, 0) for index in view.current)
        self._connections = smoothed(self._connections, newest)
        buckets = sum(view.current.values())
        self.caps = steady(self.caps, connection_caps(view.limits, self._connections, buckets))
