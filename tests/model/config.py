"""What one server knows: services, pools with their tables, DIPs, whom it trusts.

The words are those of wire.md. Everything is frozen; a test makes a variant with
``dataclasses.replace``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

MAX_CHAIN = 4
EMPTY_SLOT = 0


@dataclass(frozen=True)
class Service:
    """What clients connect to (wire.md, line F13), and the pool that serves it.

    ``protocol`` is the IP protocol number, 6 or 17.
    """

    vip: IPv4Address
    protocol: int
    port: int
    pool: str
    stateless: bool = False


@dataclass(frozen=True)
class Pool:
    """A pool's key and table (wire.md, sections 1 and 3).

    ``chains`` maps a bucket to DIP indices, newest first. A missing bucket is an empty one, and so
    is one whose first index is 0. Raises ``ValueError`` for what the format cannot express.
    """

    key: bytes
    buckets: int
    chains: Mapping[int, tuple[int, ...]]

    def __post_init__(self) -> None:
        if len(self.key) != 16:
            raise ValueError(f"a pool's key has 16 bytes, not {len(self.key)}")
        if self.buckets not in {1 << power for power in range(8, 21)}:
            raise ValueError(f"buckets must be a power of two from 2^8 to 2^20, not {self.buckets}")
        for bucket, chain in self.chains.items():
            if not 0 <= bucket < self.buckets:
                raise ValueError(f"bucket {bucket} is not below {self.buckets}")
            if len(chain) > MAX_CHAIN:
                raise ValueError(f"bucket {bucket}: a chain has at most {MAX_CHAIN} DIPs")

    def chain(self, bucket: int) -> tuple[int, ...]:
        """The DIP indices of a bucket, newest first, up to the first 0 (wire.md, section 3)."""
        slots = self.chains.get(bucket, ())
        if EMPTY_SLOT in slots:
            return slots[: slots.index(EMPTY_SLOT)]
        return slots


@dataclass(frozen=True)
class Dip:
    """A server's own address, and the MAC of the next hop towards it, None if unknown."""

    address: IPv4Address
    mac: bytes | None = None


@dataclass(frozen=True)
class Config:
    """One server's whole configuration, for the forwarder and the redirector alike.

    ``mac`` and ``mtu`` are those of the interface; ``mtu`` counts from the IP header on. A pool
    that is None or missing has no table. ``known`` are the DIPs of line R4, this server's own
    included if it is to accept what it sends to itself; ``probers`` the controllers of section 7.
    Raises ``ValueError`` when two DIPs share an address, two services share address, protocol and
    port, or an index is 0.
    """

    self_dip: IPv4Address
    mac: bytes
    gue_port: int = 6080
    mtu: int = 1500
    services: tuple[Service, ...] = ()
    pools: Mapping[str, Pool | None] = field(default_factory=dict)
    dips: Mapping[int, Dip] = field(default_factory=dict)
    known: frozenset[IPv4Address] = frozenset()
    probers: frozenset[IPv4Address] = frozenset()

    def __post_init__(self) -> None:
        if EMPTY_SLOT in self.dips:
            raise ValueError("index 0 means an empty slot, no DIP can have it")
        addresses = [dip.address for dip in self.dips.values()]
        if len(set(addresses)) != len(addresses):
            raise ValueError("two DIP entries have the same address")
        keys = [(service.vip, service.protocol, service.port) for service in self.services]
        if len(set(keys)) != len(keys):
            raise ValueError("two services have the same address, protocol and port")

    def is_vip(self, address: IPv4Address) -> bool:
        """Whether at least one service names this address (wire.md, introduction)."""
        return any(service.vip == address for service in self.services)

    def service_index(self, address: IPv4Address, protocol: int, port: int) -> int | None:
        """The place in ``services`` of the service that such a packet is for (line F13)."""
        for index, service in enumerate(self.services):
            if (service.vip, service.protocol, service.port) == (address, protocol, port):
                return index
        return None

    def dip_at(self, address: IPv4Address) -> Dip | None:
        """The DIP entry with this address (line R20)."""
        return next((dip for dip in self.dips.values() if dip.address == address), None)


ForwarderConfig = Config
RedirectorConfig = Config
