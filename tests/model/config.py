"""What one server knows: services, pools with their tables, DIPs, whom it trusts.

The words are those of wire.md. Everything is frozen; a test makes a variant with
``dataclasses.replace``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from tests.model.addresses import Address, Vip

MAX_CHAIN = 4
MAC_LENGTH = 6
EMPTY_SLOT = 0


@dataclass(frozen=True)
class Service:
    """What clients connect to (wire.md, section 4.1), and the pool that serves it.

    ``vip`` is a prefix, that of a single address one of full length; ``protocol`` the IP protocol
    number, 6 or 17; ``port`` None for any port.
    """

    vip: Vip
    protocol: int
    port: int | None
    pool: str
    stateless: bool = False

    def serves(self, address: Address, protocol: int, port: int) -> bool:
        """Whether a packet to this address and port is for this service, if for no better one."""
        return address in self.vip and protocol == self.protocol and self.port in {None, port}


@dataclass(frozen=True)
class Pool:
    """A pool's key and table (wire.md, sections 1 and 3).

    ``chains`` maps a bucket to DIP indices, newest first. A missing bucket is an empty one, and so
    is one whose first index is 0. ``depth`` is the longest chain that the table has slots for,
    whatever its chains are now. ``by_client`` is the hash mode ``client``. Raises ``ValueError``
    for what the format cannot express.
    """

    key: bytes
    buckets: int
    chains: Mapping[int, tuple[int, ...]]
    depth: int
    by_client: bool = False

    def __post_init__(self) -> None:
        if len(self.key) != 16:
            raise ValueError(f"a pool's key has 16 bytes, not {len(self.key)}")
        if self.buckets not in {1 << power for power in range(8, 21)}:
            raise ValueError(f"buckets must be a power of two from 2^8 to 2^20, not {self.buckets}")
        if not 1 <= self.depth <= MAX_CHAIN:
            raise ValueError(f"a table is 1 to {MAX_CHAIN} deep, not {self.depth}")
        for bucket, chain in self.chains.items():
            if not 0 <= bucket < self.buckets:
                raise ValueError(f"bucket {bucket} is not below {self.buckets}")
            if len(chain) > self.depth:
                raise ValueError(f"bucket {bucket}: a chain has at most {self.depth} DIPs here")

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

    ``mac`` and ``mtu`` are those of the interface: a frame for another MAC is for another host, and
    ``mtu`` counts from the IP header on. A pool that is None or missing has no table. ``known`` are
    the DIPs of line R4, this server's own included if it is to accept what it sends to itself;
    ``probers`` the controllers of section 7.1. Raises ``ValueError`` when the MAC does not have 6
    bytes, two DIPs share an address, two services share address, protocol and port, or an index is
    0. DIPs are IPv4 addresses: the underlay is IPv4 only.
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
        if len(self.mac) != MAC_LENGTH:
            raise ValueError(f"a MAC has {MAC_LENGTH} bytes, not {len(self.mac)}")
        if EMPTY_SLOT in self.dips:
            raise ValueError("index 0 means an empty slot, no DIP can have it")
        addresses = [dip.address for dip in self.dips.values()]
        if len(set(addresses)) != len(addresses):
            raise ValueError("two DIP entries have the same address")
        keys = [(service.vip, service.protocol, service.port) for service in self.services]
        if len(set(keys)) != len(keys):
            raise ValueError("two services have the same address, protocol and port")

    def is_vip(self, address: Address) -> bool:
        """Whether the address lies in the VIP of a service (wire.md, introduction)."""
        return any(address in service.vip for service in self.services)

    def service_index(self, address: Address, protocol: int, port: int) -> int | None:
        """The place in ``services`` of the service that such a packet is for (section 4.1)."""
        fitting = [
            (service.vip.prefixlen, service.port is not None, index)
            for index, service in enumerate(self.services)
            if service.serves(address, protocol, port)
        ]
        return max(fitting)[2] if fitting else None

    def dip_at(self, address: IPv4Address) -> Dip | None:
        """The DIP entry with this address (line R23)."""
        return next((dip for dip in self.dips.values() if dip.address == address), None)


ForwarderConfig = Config
RedirectorConfig = Config
