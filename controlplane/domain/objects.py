"""The domain objects that controllers, agents and stores exchange.

Plain frozen data, validated when it is decoded (``controlplane.documents``), never when it is
used. Addresses are ``ipaddress`` objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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
"""The destination of clients: a prefix; a single address is a /32 or /128."""
Address = IPv4Address | IPv6Address
HashMode = Literal["flow", "client"]
"""What is hashed: addresses, ports and protocol, or the client's address alone."""


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
    """Spell a service's protocol: its name, or the number of one that services cannot have."""
    return next((name for name, number in PROTOCOLS.items() if number == protocol), str(protocol))


def first_address(vip: Vip) -> Address:
    """Return a VIP's first usable address: the second of a prefix of more than two addresses.

    The first of a prefix stands for the subnet (RFC 1122, 3.2.1.3; RFC 4291, 2.6.1), except in a
    point-to-point one (RFC 3021, RFC 6164).
    """
    return vip.network_address + (1 if vip.max_prefixlen - vip.prefixlen > 1 else 0)


class ServerState(StrEnum):
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


class CheckType(StrEnum):
    """How a service is checked."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True)
class Check:
    """A health check that each agent runs against its own VIP listener.

    ``port`` and ``address`` are the destination where the service does not determine it: a service
    with any port needs ``port``; of a prefix, the first usable address is checked unless
    ``address`` names another. ``host`` is the Host header of an http check; by default it is the
    address and port.
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
    host: str | None = None


@dataclass(frozen=True)
class Service:
    """A (VIP, protocol, port) bound to one pool; ``port`` ``None`` is any port.

    A packet belongs to the service with the longest prefix that covers its destination and has
    its port; of two with the same prefix, the one with a port comes before the one with any port.
    """

    name: str
    vip: Vip
    protocol: int
    port: int | None
    pool: str
    stateless: bool = False
    check: Check = field(default_factory=Check)

    @property
    def check_address(self) -> Address:
        """The address that its check connects to."""
        return self.check.address or first_address(self.vip)

    @property
    def check_port(self) -> int | None:
        """The port that its check connects to; a service with any port may have none."""
        return self.check.port or self.port


@dataclass(frozen=True)
class Pool:
    """What every server needs to know of a pool to read its table."""

    name: str
    buckets: int = 65536
    depth: int = DEFAULT_DEPTH
    hash_mode: HashMode = "flow"
    key_id: str = ""


@dataclass(frozen=True)
class Server:
    """A server of the cluster. ``index`` stands for it in every chain while it is a member."""

    name: str
    dip: IPv4Address
    index: int
    state: ServerState = ServerState.REGISTERED


@dataclass(frozen=True)
class Cluster:
    """The ``cluster`` document: servers, services and pools."""

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
    ``moved_at`` is uint32 of shape ``(buckets,)``: fleet seconds (docs/adr/0012) at which the
    bucket's current server last changed, 0 for never. ``cluster_generation`` is the settled
    ``cluster`` document whose servers the indices name.
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
class ServiceHealth:
    """Outcome of one service's checks on one server, after rise and fall."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True)
class PathReport:
    """What one agent's probes of the paths to other servers have shown (docs/wire.md, 7.2).

    ``probed``: servers that were probed. ``lost``: those that do not answer any more. ``unknown``:
    those that never answered since the agent's start; echo replies may be filtered.
    """

    probed: int = 0
    lost: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """The machine that a report or an acknowledgement comes from; empty: an older agent's.

    ``dip`` is the DIP that its agent is configured with, ``machine`` the boot id of its kernel.
    """

    dip: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Twin:
    """A machine that is not believed: another one has the name. ``refused``: how many times."""

    origin: Origin
    refused: int


@dataclass(frozen=True)
class Strays:
    """How many open connections of a server no table of a pool leads to, by one cause."""

    pool: str
    cause: str
    count: int


ANSWER_BITS = 24
"""Of a flow's hash: a server that is asked for the flow has to know them."""


@dataclass(frozen=True, order=True)
class AskedFlow:
    """A TCP flow that servers are asked for: its pool, and the hash without its last bits."""

    pool: str
    part: int


@dataclass(frozen=True)
class FlowName:
    """A TCP flow as servers name it to each other: pool, and hash (docs/wire.md, section 8)."""

    pool: str
    hash: int

    @property
    def asked(self) -> AskedFlow:
        """How servers are asked for it."""
        return AskedFlow(self.pool, self.hash >> ANSWER_BITS)


@dataclass(frozen=True)
class Report:
    """The state of one agent, which it reports every 250 ms.

    ``sent_at`` is the agent's own clock and only for people; a controller dates reports by when
    *it* sees ``sequence`` change. ``load`` is busy time over capacity in the source's window, 1.0
    for all of it, ``None`` for unknown. ``checks`` does not have a service that was never checked.
    ``connections`` counts open connections of services: TCP, and UDP flows of services that are not
    stateless. ``stopped`` is set in the last report of an agent, once its forwarder is detached.
    ``detached``: the agent found that its programs are not attached, so packets for its DIP are
    lost. ``refused_cluster`` is the generation of the newest cluster document if this agent refused
    it, else 0. ``paths`` is ``None`` if the agent does not probe any: an earlier version does not
    answer probes either. ``missing`` names what the server cannot do without and does not have now,
    as ``forwarder``, ``vips``, ``dip``: it must not get traffic, whatever ``ready`` is while its
    routes are being withdrawn.
    ``leaving``: `lbctl down` runs on this server and waits until no table names it.
    ``strays``: connections that are cut off. ``presence``: a dump of this server's sockets, as
    ``controlplane.documents.presence`` encodes it and reads it; ``None``: this report has none.
    ``flows``: those that had nowhere to go here, and those that the controller asks for and this
    server has, as ``controlplane.documents.flows`` encodes them; ``None``: there are none.
    ``dip`` and ``machine``: see ``Origin``; ``boot_id`` is of this run of the agent.
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
    detached: bool = False
    paths: PathReport | None = None
    missing: tuple[str, ...] = ()
    leaving: bool = False
    strays: tuple[Strays, ...] = ()
    presence: object = None
    flows: object = None
    dip: str = ""
    machine: str = ""

    @property
    def origin(self) -> Origin:
        """The machine that it comes from."""
        return Origin(self.dip, self.machine)
