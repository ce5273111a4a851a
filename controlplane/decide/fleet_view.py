"""What a controller knows of all servers at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement, counts
from controlplane.domain.objects import CLUSTER, Cluster, Report

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
    """How long joins, drains and settings wait for a silent server."""

    def acknowledged_by(self, server: str, kind: str) -> int:
        """Return the generation of this kind that a server has in use, 0 for none."""
        return self.acknowledged.get(server, {}).get(kind, 0)

    def settlement(self, kind: str, generation: int) -> Settlement:
        """Return which servers hold this generation back."""
        waiting = [
            name for name in self._counted() if self.acknowledged_by(name, kind) < generation
        ]
        silent = [
            name
            for name in waiting
            if self.servers[name].silent
            and self.servers[name].silent_seconds >= self.silent_wait_seconds
        ]
        refusing = [
            name
            for name in waiting
            if kind == CLUSTER and self.servers[name].refused_cluster == generation
        ]
        return Settlement(kind, generation, tuple(waiting), tuple(silent), tuple(refusing))

    def silent(self) -> frozenset[str]:
        """Return the servers that count and are silent."""
        return frozenset(name for name in self._counted() if self.servers[name].silent)

    def _counted(self) -> list[str]:
        members = self.cluster.servers if self.cluster else ()
        return [server.name for server in members if counts(server, self.servers[server.name])]
