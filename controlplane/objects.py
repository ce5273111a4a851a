"""The domain objects that controllers, agents and stores exchange.

Plain frozen data, validated when it is decoded (``controlplane.documents``), never when it is used.
Times are Unix seconds. Addresses are ``ipaddress`` objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TCP = 6
UDP = 17

MIN_BUCKETS = 1 << 8
MAX_BUCKETS = 1 << 20
MAX_DEPTH = 4
"""Longest chain that the wire can carry."""
DEFAULT_DEPTH = 2
"""A pool's longest chain, unless its settings say another."""
MAX_SERVERS = 4095
"""DIP indices are 1 to this; 0 marks an empty slot."""
MAX_SERVICES = 4096
"""More have no room in a server's look-up tables."""
MAX_CHECKED_SERVICES = 2048
"""More have no room in a report."""
KEY_BYTES = 16


class ServerState(str, Enum):
    """Where a server is in its life (DESIGN, section 1)."""

    REGISTERED = "registered"
    JOINING = "joining"
    ACTIVE = "active"
    DRAINING = "draining"
    DOWN = "down"

    @property
    def gets_routed_traffic(self) -> bool:
        """Whether its agent may announce routes and be ready."""
        return self not in (ServerState.REGISTERED, ServerState.DOWN)


class CheckType(str, Enum):
    """How a service is checked."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True)
class Check:
    """A health check that each agent runs against its own VIP listener."""

    type: CheckType = CheckType.NONE
    path: str = "/"
    expect_status: int = 200
    interval_seconds: float = 1.0
    timeout_seconds: float = 1.0
    rise: int = 2
    fall: int = 3


@dataclass(frozen=True)
class Service:
    """A (VIP, protocol, port) bound to one pool."""

    name: str
    vip: IPv4Address
    protocol: int
    port: int
    pool: str
    stateless: bool = False
    check: Check = field(default_factory=Check)


@dataclass(frozen=True)
class Pool:
    """What every server must know of a pool to read its table."""

    name: str
    buckets: int = 65536
    depth: int = DEFAULT_DEPTH
    hash_mode: str = "flow"
    key_id: str = ""


@dataclass(frozen=True)
class Server:
    """A known DIP. ``index`` is its number in every chain while it is known."""

    name: str
    dip: IPv4Address
    index: int
    state: ServerState = ServerState.REGISTERED


@dataclass(frozen=True)
class Cluster:
    """The ``cluster`` document: who there is and what is served."""

    generation: int
    servers: tuple[Server, ...] = ()
    services: tuple[Service, ...] = ()
    pools: tuple[Pool, ...] = ()
    probers: frozenset[IPv4Address] = frozenset()
    gue_port: int = 6080

    def server(self, name: str) -> Server | None:
        """Return the server of this name, or ``None``."""
        return next((s for s in self.servers if s.name == name), None)

    def pool(self, name: str) -> Pool | None:
        """Return the pool of this name, or ``None``."""
        return next((p for p in self.pools if p.name == name), None)


@dataclass(frozen=True, eq=False)
class Table:
    """The ``table/<pool>`` document: one chain a bucket.

    ``chains`` is uint16 of shape ``(buckets, depth)``: DIP indices, newest first, 0 for none.
    ``moved_at`` is uint32 of shape ``(buckets,)``: Unix seconds at which the bucket's current
    server last changed, 0 for never. ``cluster_generation`` is the settled ``cluster`` document
    whose servers the indices name.
    """

    pool: str
    generation: int
    cluster_generation: int
    chains: NDArray[np.uint16]
    moved_at: NDArray[np.uint32]

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return int(self.chains.shape[0])

    @property
    def depth(self) -> int:
        """Slots a bucket."""
        return int(self.chains.shape[1])


CLUSTER = "cluster"


def table_kind(pool: str) -> str:
    """Name of a pool's table document: the ``kind`` that stores and acknowledgements use."""
    return f"table/{pool}"


@dataclass(frozen=True)
class Acknowledgements:
    """The generations that one server's data plane has in use, by document kind."""

    generations: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceHealth:
    """Outcome of one service's checks on one server, after rise and fall."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What an agent says of itself, every 250 ms.

    ``sent_at`` is the agent's own clock and only for people; a controller dates reports by when
    *it* sees ``sequence`` change. ``load`` is busy time over capacity, 1.0 for all of it, ``None``
    for unknown, per source window. ``checks`` lacks a service that was never checked.
    ``connections`` counts established TCP connections on VIPs. ``stopped`` is said once, last, by
    an agent whose forwarder is detached.
    """

    server: str
    boot_id: str
    sequence: int
    sent_at: float
    ready: bool = False
    stopped: bool = False
    load: float | None = None
    connections: int = 0
    checks: dict[str, ServiceHealth] = field(default_factory=dict)
    version: str = ""
    xdp_mode: str = ""
    errors: tuple[str, ...] = ()
