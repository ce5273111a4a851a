"""What a controller decided in its last round, and why: for people and commands, not for agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why a server does not have buckets of a pool. The value is what people read."""

    CHAIN_FULL = "chain full"
    """Every bucket that it could get has a full chain of hops within their drain time."""
    CAP = "cap"
    """`max_connections`, or the bounded load."""
    WEIGHT = "weight"
    """Its share is below the mean, because its load was above it."""
    SLOW_START = "slow start"
    HEALTH = "health"
    SETTLING = "settling"
    """A document is not in use everywhere, so nothing may move yet."""
    SILENT = "silent agents"
    """Moves for load wait while an agent is silent."""
    DRAINING = "draining"
    NOT_IN_USE = "not in use"
    """Down, or registered and not joining."""
    MOVING = "moving"
    """The next tables give it to the server."""
    OTHER = "rounding"


@dataclass(frozen=True)
class Missing:
    """Buckets that a server does not have for one reason."""

    reason: Reason
    buckets: int
    detail: str = ""


@dataclass(frozen=True)
class ServerBuckets:
    """A server's buckets in a pool. ``part``: what it would have if all servers had equally many.

    ``missing`` adds up to the difference, if it has fewer. ``keeps``: why it still has buckets
    although it may not be given any.
    """

    buckets: int
    part: int
    missing: tuple[Missing, ...] = ()
    keeps: str = ""


@dataclass(frozen=True)
class PoolDecisions:
    """A pool in the last round.

    ``shares`` and ``caps`` (in buckets) are by server, as the builder had them. ``generation`` is
    the table's, ``waiting_for`` who does not have it in use yet. ``forced``: hops that this
    controller has pushed out within their drain time since its start; ``None``: not reported.
    ``load_unknown``: servers that are heard and whose load this pool, balanced by load, lacks.
    """

    generation: int = 0
    waiting_for: tuple[str, ...] = ()
    panic: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[str, ServerBuckets] = field(default_factory=dict)
    forced: int | None = None
    load_unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proved:
    """Connections that ``held_by`` has and for whose segments ``broken_by`` had no socket."""

    broken_by: str
    held_by: str
    count: int


@dataclass(frozen=True)
class Decisions:
    """All pools. ``at``: Unix seconds, for people. ``held``: server -> why its drain waits.

    ``refusing``: silent server -> services where nothing listens, by the controller's probes.
    ``cut_off``: server that the others do not reach -> why it may not join yet. ``proved``: broken
    connections since this controller's start, by the server that had no socket and the one that has
    it.
    """

    at: float = 0.0
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refusing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cut_off: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, PoolDecisions] = field(default_factory=dict)
    proved: tuple[Proved, ...] = ()
