"""What a plan contains: plain values, for people and for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.decide.plan.ahead import Cause


class Kind(StrEnum):
    """What may be planned for a server."""

    DRAIN = "drain"
    UNDRAIN = "undrain"
    DOWN = "down"
    """It goes at once, as by ``lbctl down --force``, or if its machine fails."""
    REBOOT = "reboot"
    """It is drained, goes away, and comes back."""


@dataclass(frozen=True)
class LostPlan:
    """Connections that would be lost. ``connections``: about; ``None``: unknown, any number.

    ``hops``: buckets in whose chains the server is now, and is not then.
    """

    server: str
    cause: Cause
    hops: int
    connections: int | None


@dataclass(frozen=True)
class PoolPlan:
    """What a stage does in one pool.

    ``buckets``: with another current server afterwards; ``anyway``: as many would move without the
    change. ``forced``: later hops pushed out within their drain time by this change;
    ``full_seconds``: until chains would have space for them. ``held_back``: moves that wait for
    that. ``unplaced``: buckets that exceed caps. ``chained_buckets``: of which the server before
    stays a later hop; ``chained``: its connections there, about, ``None``: unknown;
    ``chained_part``: they are this part of the pool's connections (of its buckets, if unknown),
    whose packets visit one more server. ``nobody``: no server can take the buckets: they stay.
    ``has``: server -> its buckets afterwards.
    """

    pool: str
    buckets: int
    anyway: int
    forced: int
    full_seconds: float
    held_back: int
    unplaced: int
    chained_buckets: int
    chained: int | None
    chained_part: float
    lost: tuple[LostPlan, ...]
    nobody: bool
    tables: int
    has: Mapping[str, int]


@dataclass(frozen=True)
class StagePlan:
    """One step. ``seconds``: it takes at least so long, because of ``bound``.

    ``waits_for``: connections that have to end in this time if they shall not break; ``None``:
    unknown.
    """

    what: str
    pools: tuple[PoolPlan, ...]
    generations: int
    seconds: float
    bound: str
    waits_for: int | None = 0


@dataclass(frozen=True)
class ServerPlan:
    """A server's part of each pool's buckets, now and when the fewest servers serve.

    ``load``: now and then, if load follows buckets; ``None``: not known. ``over``: what it would
    exceed.
    """

    server: str
    part: Mapping[str, float]
    part_then: Mapping[str, float]
    load: float | None
    load_then: float | None
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """How far the plan can be trusted.

    ``presence``: servers whose connections are known by bucket; ``assumed``: those that are assumed
    to have connections everywhere. ``presence_seconds``: the oldest of it; ``None``: not known.
    ``decided_seconds``: how old the controller's shares are; ``None``: there are none.
    """

    presence: int
    assumed: tuple[str, ...]
    presence_seconds: float | None
    decided_seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a change would do. ``notes``: what else has to be known."""

    change: Kind
    server: str
    stages: tuple[StagePlan, ...]
    servers: tuple[ServerPlan, ...]
    knowledge: Knowledge
    notes: tuple[str, ...] = ()

    @property
    def lost(self) -> int | None:
        """Connections that would be lost in all stages, about; ``None``: it is not known."""
        counts = [one.connections for s in self.stages for pool in s.pools for one in pool.lost]
        return None if None in counts else sum(count for count in counts if count is not None)
