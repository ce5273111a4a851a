"""What the data plane is told: who this server is, and what the cluster looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

DEFAULT_GUE_PORT = 6080


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
    """One (VIP, protocol, port) and the pool that serves it."""

    vip: IPv4Address
    protocol: int
    port: int
    pool: str
    stateless: bool = False

    @property
    def address(self) -> tuple[IPv4Address, int, int]:
        """What a packet is matched by; unique among services."""
        return self.vip, self.protocol, self.port


@dataclass(frozen=True)
class ClusterView:
    """What must change together: services (and so VIPs), every known DIP by index, probers."""

    services: tuple[ServiceEntry, ...] = ()
    dips: Mapping[int, IPv4Address] = field(default_factory=dict)
    probers: frozenset[IPv4Address] = frozenset()
