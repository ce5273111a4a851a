"""What the data plane is told: who this server is, and what the cluster looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

DEFAULT_GUE_PORT = 6080

Vip = IPv4Network | IPv6Network
"""A prefix; a single address is one of full length."""


@dataclass(frozen=True)
class Identity:
    """What this server is: its DIP, and the interface that packets come and go by."""

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
        """What a packet is matched by; unique among services."""
        return self.vip, self.protocol, self.port


@dataclass(frozen=True)
class ClusterView:
    """What must change together: services (and so VIPs), every known DIP by index, probers."""

    services: tuple[ServiceEntry, ...] = ()
    dips: Mapping[int, IPv4Address] = field(default_factory=dict)
    probers: frozenset[IPv4Address] = frozenset()
