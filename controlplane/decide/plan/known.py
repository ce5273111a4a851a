"""What a plan is made from: what the controller knows of pools and servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.builder import BuildRequest
from controlplane.decide.plan.ahead import Presence
from controlplane.domain.objects import ServerState, Table


@dataclass(frozen=True)
class KnownServer:
    """One server.

    ``pools``: that it serves by the settings. ``load``: 1.0 is all of its capacity; ``None``: not
    known. ``connections``: on its VIPs. ``limit``: its ``max_connections``. ``alive``: its agent
    reports now. ``drain_requested``: somebody has requested that. ``dump_age_seconds``: how old the
    last dump of its sockets is at most; ``None``: not known.
    """

    name: str
    index: int
    state: ServerState
    pools: frozenset[str]
    load: float | None = None
    connections: int | None = None
    limit: int | None = None
    alive: bool = True
    drain_requested: bool = False
    dump_age_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class KnownPool:
    """One pool: its newest table, and the request for the next one if nothing were changed.

    ``presence``: by DIP index, of the servers whose last dump is about this table.
    ``full_shares``: those of servers that may not be given buckets now.
    """

    table: Table
    request: BuildRequest
    presence: Presence = field(default_factory=dict)
    full_shares: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Known:
    """The fleet. ``decided_age_seconds``: how old the shares are; ``None``: there are none."""

    servers: Mapping[str, KnownServer]
    pools: Mapping[str, KnownPool]
    slow_start_seconds: float = 0.0
    decided_age_seconds: float | None = None
