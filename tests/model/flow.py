"""From a packet's addresses and ports to its hash, bucket and outer source port."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.model.addresses import Address
from tests.model.siphash import siphash_1_3


@dataclass(frozen=True)
class Flow:
    """The five fields that name a flow, as the client's packets carry them."""

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int

    def hash_input(self, *, by_client: bool = False) -> bytes:
        """The bytes that are hashed: 13 or 37, by client 4 or 16 (wire.md, section 1)."""
        if by_client:
            return self.source.packed
        tail = struct.pack(">HHB", self.source_port, self.destination_port, self.protocol)
        return self.source.packed + self.destination.packed + tail

    def hash(self, key: bytes, *, by_client: bool = False) -> int:
        """The 64-bit number ``h`` of wire.md, section 1, under a pool's 16-byte key."""
        return siphash_1_3(key, self.hash_input(by_client=by_client))

    def turned_round(self) -> Flow:
        """The flow of the packets in the other direction."""
        return Flow(
            self.protocol,
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
        )


def bucket_of(flow_hash: int, buckets: int) -> int:
    """The row of a table with so many buckets, a power of two (wire.md, section 1)."""
    return flow_hash & (buckets - 1)


def outer_source_port(flow_hash: int) -> int:
    """The outer UDP source port, at least 0x8000 (wire.md, section 1)."""
    return 0x8000 | ((flow_hash >> 48) & 0x7FFF)
