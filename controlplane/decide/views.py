"""What a controller knows at one moment: of the fleet, in one round, of one pool. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.decide.health import Failing
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement, counts
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.objects import CLUSTER, Cluster, Report, ServerState, Twin
from controlplane.settings.models import ControlConfig

Acknowledged = Mapping[str, Mapping[str, int]]
"""Server name -> kind -> generation."""


@dataclass(frozen=True)
class FleetView:
    """What one observation found.

    ``cluster``: the newest cluster document, ``None`` before the first. ``servers`` has every
    server of that document and of the settings, by name.
    """

    cluster: Cluster | None = None
    servers: Mapping[str, ServerView] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    acknowledged: Acknowledged = field(default_factory=dict)
    silent_wait_seconds: float = 0.0
    """How long joins, drains and settings wait for a silent server. They do not wait for one whose
    VIP refuses connections: each new one is lost until it has no buckets."""
    twins: Mapping[str, Twin] = field(default_factory=dict)
    """Machines that are ignored, by the name of another one that they claim."""
    drain_requests: Mapping[str, DrainRequest] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    """Names under which somebody reports, and that neither the cluster nor the settings have."""

    def acknowledged_by(self, server: str, kind: str) -> int:
        """Return the generation of this kind that a server has in use, 0 for none."""
        return self.acknowledged.get(server, {}).get(kind, 0)

    def settlement(self, kind: str, generation: int) -> Settlement:
        """Return which servers hold this generation back."""
        waiting = [
            name for name in self._counted() if self.acknowledged_by(name, kind) < generation
        ]
        views = [(name, self.servers[name]) for name in waiting]
        long = self.silent_wait_seconds
        silent = [
            name
            for name, v in views
            if v.silent and (v.silent_seconds >= long or v.refused_services)
        ]
        refusing = [n for n, v in views if kind == CLUSTER and v.refused_cluster == generation]
        return Settlement(kind, generation, tuple(waiting), tuple(silent), tuple(refusing))

    def silent(self) -> frozenset[str]:
        """Return the servers that count and are silent."""
        return frozenset(name for name in self._counted() if self.servers[name].silent)

    def leaving(self) -> frozenset[str]:
        """Return the servers that ask to leave."""
        return frozenset(name for name, view in self.servers.items() if view.leaving)

    def _counted(self) -> list[str]:
        members = self.cluster.servers if self.cluster else ()
        return [server.name for server in members if counts(server, self.servers[server.name])]


@dataclass(frozen=True)
class RoundView:
    """What one round knows. ``now`` is monotonic; ages in tables are in ``fleet_seconds``.

    ``cluster`` is the newest cluster document, ``settled_cluster`` the newest that is known to be
    settled. ``silent``: silent servers that count; they hold back moves made for load.
    ``refused``: those of ``failing`` that probes of silent servers found.
    ``unfit``: servers that are not ready, and so unhealthy in every pool. ``loads``:
    pool -> DIP index -> load. ``ramps``: how far a joining server's slow start is, 0 to 1, by DIP
    index. ``cut_off``: servers that the others do not reach.
    """

    now: float
    fleet_seconds: float
    ticked: bool
    config: ControlConfig
    fleet: FleetView
    cluster: Cluster
    settled_cluster: Cluster | None
    failing: Failing
    refused: Failing = frozenset()
    unfit: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    loads: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
    cut_off: frozenset[str] = frozenset()

    def is_withdrawing(self, indices: Collection[int]) -> bool:
        """Whether a server of these indices is cut off and has not left the tables yet."""
        return any(
            server.name in self.cut_off
            and server.state is not ServerState.DOWN
            and server.index in indices
            for server in self.cluster.servers
        )


@dataclass(frozen=True)
class PoolView:
    """What shares and caps depend on, by DIP index.

    ``loads`` of 1.0 are all of the capacity; a load that is missing or ``None`` is unknown or too
    old. ``ramps``: how far a joining server's slow start is, 0 to 1. ``current``: buckets that each
    server is current for. ``limits``: ``max_connections``. ``connections``: open ones on each
    server. ``frozen``: an agent is silent or the pool is in panic, so nothing moves for load.
    """

    states: Mapping[int, ServerState]
    loads: Mapping[int, float | None] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
    current: Mapping[int, int] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)
    connections: Mapping[int, int] = field(default_factory=dict)
    frozen: bool = False

    def ramp(self, index: int) -> float:
        """Return the part of its full share that a server may have."""
        return min(max(self.ramps.get(index, 1.0), 0.0), 1.0)
