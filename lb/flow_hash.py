"""The keyed flow hash in Python, for looking at single flows (docs/wire.md, section 1).

SipHash by Aumasson and Bernstein, "SipHash: a fast short-input PRF". Buckets of packets are the
kernel's business; this is for `lbctl where`, and slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

WORD = (1 << 64) - 1
COMPRESSION_ROUNDS = 1
FINALIZATION_ROUNDS = 3
BLOCK_BYTES = 8
SOURCE_PORT_BIT = 0x8000
SOURCE_PORT_SHIFT = 48
SOURCE_PORT_MASK = 0x7FFF


Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Flow:
    """A packet's addresses, ports and protocol, as the forwarder sees it."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int
    protocol: int

    @property
    def hash_input(self) -> bytes:
        """What is hashed, 13 or 37 bytes: fields in network order, no padding."""
        return (
            self.source.packed
            + self.destination.packed
            + self.source_port.to_bytes(2, "big")
            + self.destination_port.to_bytes(2, "big")
            + bytes([self.protocol])
        )

    @property
    def client_hash_input(self) -> bytes:
        """What is hashed in a pool that looks at the client's address alone."""
        return self.source.packed


def siphash(
    key: bytes,
    data: bytes,
    compression: int = COMPRESSION_ROUNDS,
    finalization: int = FINALIZATION_ROUNDS,
) -> int:
    """Return SipHash-c-d of ``data`` under a 16-byte key, 1-3 by default."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    state = (
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    )
    whole = len(data) - len(data) % BLOCK_BYTES
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, whole, BLOCK_BYTES)]
    blocks.append(data[whole:].ljust(BLOCK_BYTES - 1, b"\0") + bytes([len(data) & 0xFF]))
    for block in blocks:
        word = int.from_bytes(block, "little")
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _rounds((v0, v1, v2, v3 ^ word), compression)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), finalization)
    return v0 ^ v1 ^ v2 ^ v3


def bucket_of(flow_hash: int, buckets: int) -> int:
    """Return the row of the table; ``buckets`` is a power of two."""
    return flow_hash & (buckets - 1)


def source_port_of(flow_hash: int) -> int:
    """Return the source port of the outer UDP header."""
    return SOURCE_PORT_BIT | ((flow_hash >> SOURCE_PORT_SHIFT) & SOURCE_PORT_MASK)


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & WORD
        v1 = _rotate(v1, 13) ^ v0
        v0 = _rotate(v0, 32)
        v2 = (v2 + v3) & WORD
        v3 = _rotate(v3, 16) ^ v2
        v0 = (v0 + v3) & WORD
        v3 = _rotate(v3, 21) ^ v0
        v2 = (v2 + v1) & WORD
        v1 = _rotate(v1, 17) ^ v2
        v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


def _rotate(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & WORD
