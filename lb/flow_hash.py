"""The keyed flow hash in Python, for single flows (docs/wire.md, section 1).

SipHash by Aumasson and Bernstein, "SipHash: a fast short-input PRF". The programs hash packets
themselves; this is for `lbctl where` and `lbctl trace`, and slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

WORD = (1 << 64) - 1
BLOCK_BYTES = 8
SIP_CONSTANTS = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)

State = tuple[int, int, int, int]
"""SipHash's state: v0 to v3."""

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
        """The bytes to hash, 13 or 37: fields in network order, no padding."""
        return (
            self.source.packed
            + self.destination.packed
            + self.source_port.to_bytes(2, "big")
            + self.destination_port.to_bytes(2, "big")
            + bytes([self.protocol])
        )

    @property
    def client_hash_input(self) -> bytes:
        """The bytes to hash in a pool that hashes the client's address alone."""
        return self.source.packed


def initial_state(key: bytes) -> State:
    """Return SipHash's state before the first block, under a 16-byte key."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    c0, c1, c2, c3 = SIP_CONSTANTS
    return k0 ^ c0, k1 ^ c1, k0 ^ c2, k1 ^ c3


def half_round(state: State) -> State:
    """Return the state after the half of a round that changes v0 and v1 alone."""
    v0, v1, v2, v3 = state
    v0 = (v0 + v1) & WORD
    return rotate(v0, 32), rotate(v1, 13) ^ v0, v2, v3


def siphash(key: bytes, data: bytes, compression: int = 1, finalization: int = 3) -> int:
    """Return SipHash-c-d of ``data`` under a 16-byte key, 1-3 by default."""
    state = initial_state(key)
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
    """Return the source port of the outer UDP header: the hash's top bits, never below 32768."""
    return 0x8000 | flow_hash >> 48 & 0x7FFF


def _rounds(state: State, count: int) -> State:
    for _ in range(count):
        v0, v1, v2, v3 = half_round(state)
        v2 = (v2 + v3) & WORD
        v3 = rotate(v3, 16) ^ v2
        v0 = (v0 + v3) & WORD
        v3 = rotate(v3, 21) ^ v0
        v2 = (v2 + v1) & WORD
        v1 = rotate(v1, 17) ^ v2
        v2 = rotate(v2, 32)
        state = (v0, v1, v2, v3)
    return state


def rotate(word: int, bits: int) -> int:
    """Return a 64-bit word turned left."""
    return ((word << bits) | (word >> (64 - bits))) & WORD
