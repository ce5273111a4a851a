"""The domain objects that controllers, agents and stores exchange.

Plain frozen data, validated when it is decoded (``controlplane.documents``), never when it is
used. Times are Unix seconds. Addresses are ``ipaddress`` objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from controlplane.domain.bounds import DEFAULT_DEPTH

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TCP = 6
UDP = 17
PROTOCOLS: Mapping[str, int] = MappingProxyType({"tcp": TCP, "udp": UDP})
"""The protocols that a service can have, by the name that settings, documents and commands use."""
ANY_PORT = "any"
"""Stands for the port of a service without one, in settings, documents and tables."""

Vip = IPv4Network | IPv6Network
"""What clients connect to: a prefix; a single address is a /32 or /128."""
Address = IPv4Address | IPv6Address
HashMode = Literal["flow", "client"]
"""What a bucket follows from: addresses, ports and protocol, or the client's address alone."""


def is_host(vip: Vip) -> bool:
    """Whether a VIP is a single address."""
    return vip.prefixlen == vip.max_prefixlen


def vip_text(vip: Vip) -> str:
    """Spell a VIP: ``192.0.2.10``, ``2001:db8::1``, ``192.0.2.0/24``."""
    return str(vip.network_address) if is_host(vip) else str(vip)


def endpoint_text(vip: Vip, port: int | None) -> str:
    """Spell VIP and port: ``192.0.2.10:80``, ``[2001:db8::1]:443``, ``192.0.2.0/24:any``."""
    text = vip_text(vip)
    return f"{f'[{text}]' if vip.version == 6 else text}:{port_text(port)}"  # noqa: PLR2004 IPv6


def port_text(port: int | None) -> str:
    """Spell a service's port, ``any`` if it has none."""
    return ANY_PORT if port is None else str(port)


def protocol_text(protocol: int) -> str:
    """Spell a service's protocol."""
    return next(name for name, number in PROTOCOLS.items() if number == protocol)


def first_address(vip: Vip) -> Address:
    """Return a VIP's first usable address: the second of a prefix, unless that has no room.

    The first of a prefix means the subnet (RFC 1122, 3.2.1.3; RFC 4291, 2.6.1), except in a
    point-to-point one (RFC 3021, RFC 6164).
    """
    return vip.network_address + (1 if vip.max_prefixlen - vip.prefixlen > 1 else 0)


class ServerState(str, Enum):
    """Where a server is in its life (docs/architecture.md)."""

    REGISTERED = "registered"
    JOINING = "joining"
    ACTIVE = "active"
    DRAINING = "draining"
    DOWN = "down"


SERVING = frozenset({ServerState.JOINING, ServerState.ACTIVE})
"""A server in one of these may be given buckets."""
IN_USE = SERVING | {ServerState.DRAINING}
"""Its agent may be ready and announce routes."""
PAST_REGISTERED = IN_USE | {ServerState.DOWN}
"""No server is in one of these when a store has just begun."""


class CheckType(str, Enum):
    """How a service is checked."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True)
class Check:
    """A health check that each agent runs against its own VIP listener.

    ``port`` and ``address`` say whom to ask where the service does not: one of any port needs
    ``port``; a prefix is asked at its first usable address unless ``address`` names another.
    """

    type: CheckType = CheckType.NONE
    path: str = "/"
    expect_status: int = 200
    interval_seconds: float = 1.0
    timeout_seconds: float = 1.0
    rise: int = 2
    fall: int = 3
    port: int | None = None
    address: Address | None = None


@dataclass(frozen=True)
class Service:
    """A (VIP, protocol, port) bound to one pool; ``port`` ``None`` is any port.

    A packet belongs to the service with the longest prefix that covers its destination and has
    its port; where two have the same prefix, the one with the port comes before any port.
    """

    name: str
    vip: Vip
    protocol: int
    port: int | None
    pool: str
    stateless: bool = False
    check: Check = field(default_factory=Check)

    @property
    def place(self) -> tuple[Vip, int, int | None]:
        """What a packet is matched by; unique among services."""
        return self.vip, self.protocol, self.port

    @property
    def check_address(self) -> Address:
        """The address that its check asks."""
        return self.check.address or first_address(self.vip)

    @property
    def check_port(self) -> int | None:
        """The port that its check asks; a service of any port may have none, and no check."""
        return self.check.port or self.port


@dataclass(frozen=True)
class Pool:
    """What every server must know of a pool to read its table."""

    name: str
    buckets: int = 65536
    depth: int = DEFAULT_DEPTH
    hash_mode: HashMode = "flow"
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
    an agent whose forwarder is detached. ``refused_cluster`` is the generation of the newest
    cluster document if this agent refused it, else 0.
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
    refused_cluster: int = 0
