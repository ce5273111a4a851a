"""A pool's shares and caps over time: keeps what the pure ``shares`` and ``caps`` go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.decide.caps import connection_caps, smoothed, steady
from controlplane.decide.shares import Shares, ShareSettings, Sighting, adjust, shares_of_table
from controlplane.domain.objects import ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.settings.models import PoolConfig

AGENTS = ShareSettings()
PROMETHEUS = ShareSettings(saturated_at=math.inf, idle_below=0.0)
"""A query may yield anything, not only parts of a whole."""


@dataclass(frozen=True)
class PoolSight:
    """What a pool's shares depend on now, by DIP index.

    ``frozen``: an agent is silent, so nothing moves for load. ``limits``: ``max_connections``.
    ``connections``: open ones on each server.
    """

    states: Mapping[int, ServerState]
    loads: Mapping[int, float | None] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
    facts: TableFacts = field(default_factory=TableFacts)
    frozen: bool = False
    limits: Mapping[int, int] = field(default_factory=dict)
    connections: Mapping[int, int] = field(default_factory=dict)


class Balance:
    """One pool's shares and caps."""

    def __init__(self) -> None:
        self._kept: Shares | None = None
        self._states: Mapping[int, ServerState] = {}
        self._connections: float | None = None
        self.caps: Mapping[int, int] = {}

    @property
    def shares(self) -> Mapping[int, float]:
        """Relative shares by DIP index, of those that may be given buckets."""
        return self._kept.shares if self._kept else {}

    def stale(self, states: Mapping[int, ServerState]) -> bool:
        """Whether the shares are of other states than these: a newcomer must not get a mean one."""
        return self._kept is None or states != self._states

    def update(self, config: PoolConfig, sight: PoolSight, now: float) -> None:
        """Go on to ``now`` (monotonic). A controller that is new takes over what the table has."""
        before = self._kept or shares_of_table(sight.facts.current)
        loads = {} if sight.frozen else sight.loads
        if config.balance == "equal":
            before, loads = Shares(), {}
        kind = PROMETHEUS if config.load == "prometheus" else AGENTS
        settings = replace(kind, gain_per_second=config.balance_gain)
        found = Sighting(sight.states, loads, sight.ramps, sight.facts.current)
        self._kept = adjust(before, found, now, settings)
        self._states = dict(sight.states)
        self._cap(sight)

    def _cap(self, sight: PoolSight) -> None:
        if not sight.limits:
            self.caps, self._connections = {}, None
            return
        if sight.frozen:
            return
        current = sight.facts.current
        newest = sum(sight.connections.get(index, 0) for index in current)
        self._connections = smoothed(self._connections, newest)
        buckets = sum(current.values())
        self.caps = steady(self.caps, connection_caps(sight.limits, self._connections, buckets))
