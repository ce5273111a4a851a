"""What a controller knows and no other document has (docs/documents.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CONTROLLER = "controller"
"""The kind of its document in stores. Agents keep a copy of it, and never act on it."""
MAX_FLEET_SECONDS = 3 << 30
"""A table has 32 bits for a time; this leaves 34 years."""
MIN_SHARE, MAX_SHARE = 1e-6, 1e6
MAX_REQUEST_TEXT = 160
"""Characters of who requested something, and of the reason."""


@dataclass(frozen=True)
class DrainRequest:
    """An operator's request to drain a server. What is unknown is left empty.

    ``by``: ``user@host``. ``at``: Unix seconds by the clock of the operator's machine, 0: unknown.
    ``force``: also if the guards would hold it back (``controlplane.decide.guards``); the rest is
    for people.
    """

    by: str = ""
    at: float = 0.0
    reason: str = ""
    force: bool = False


@dataclass(frozen=True)
class ControllerState:
    """What a controller that takes over goes on from.

    ``fleet_seconds``: see ``controlplane.publish.fleet_time``. ``slow_start``: how far each joining
    server's slow start is, 0 to 1. ``shares``: pool -> server -> its share without slow start,
    where it is not 1. ``requests``: server -> the request to drain it.
    """

    fleet_seconds: float = 0.0
    slow_start: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    requests: Mapping[str, DrainRequest] = field(default_factory=dict)
