"""What a controller knows in one round of its loop, for the tables of all pools. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.decide.fleet_view import FleetView
from controlplane.decide.health import Failing
from controlplane.domain.objects import Cluster
from controlplane.settings.models import ControlConfig


@dataclass(frozen=True)
class RoundView:
    """What one round knows. ``now`` is monotonic, ``wall`` Unix seconds.

    ``cluster`` is the newest cluster document, ``settled_cluster`` the newest that is known to be
    settled. ``silent``: silent servers that count; they hold back moves made for load. ``loads``:
    pool -> DIP index -> load. ``ramps``: how far a joining server's slow start is, 0 to 1, by DIP
    index.
    """

    now: float
    wall: float
    ticked: bool
    config: ControlConfig
    fleet: FleetView
    cluster: Cluster
    settled_cluster: Cluster | None
    failing: Failing
    silent: frozenset[str] = frozenset()
    loads: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    ramps: Mapping[int, float] = field(default_factory=dict)
