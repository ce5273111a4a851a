"""The input of the data plane: this server's addresses, and the view of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

DEFAULT_GUE_PORT = 6080

Vip = IPv4Network | IPv6Network
"""A prefix; a single address is one of full length."""


@dataclass(frozen=True)
class Identity:
    """This server: its DIP, and the interface of its packets."""

    dip: IPv4Address
    mac: bytes
    mtu: int
    ifindex: int
    gue_port: int = DEFAULT_GUE_PORT


@dataclass(frozen=True)
class ServiceEntry:
    """One (VIP, protocol, port) and the pool that serves it; port None is any port.

    `by_client`: the pool hashes the client's address alone.
    """

    vip: Vip
    protocol: int
    port: int | None
    pool: str
    stateless: bool = False
    by_client: bool = False

    @property
    def address(self) -> tuple[Vip, int, int | None]:
        """The key that packets are matched by; unique among services."""
        return self.vip, self.protocol, self.port


@dataclass(frozen=True)
class ClusterView:
    """Everything that changes together: services (and so VIPs), known DIPs by index, probers."""

    services: tuple[ServiceEntry, ...] = ()
    dips: Mapping[int, IPv4Address] = field(default_factory=dict)
    probers: frozenset[IPv4Address] = frozenset()
