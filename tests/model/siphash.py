"""SipHash-c-d, written from the paper.

Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input PRF", 2012, section 2.
"""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_INITIAL = tuple(struct.unpack(">4Q", b"somepseudorandomlygeneratedbytes"))

State = tuple[int, int, int, int]


def _rotate_left(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK


def _half_round(a: int, b: int, c: int, d: int, s: int, t: int) -> State:
    """One of the two columns of figure 2.1, twice in every half of a round."""
    a = (a + b) & _MASK
    c = (c + d) & _MASK
    return a, _rotate_left(b, s) ^ a, c, _rotate_left(d, t) ^ c


def _sip_rounds(state: State, rounds: int) -> State:
    v0, v1, v2, v3 = state
    for _ in range(rounds):
        v0, v1, v2, v3 = _half_round(v0, v1, v2, v3, 13, 16)
        v0 = _rotate_left(v0, 32)
        v2, v1, v0, v3 = _half_round(v2, v1, v0, v3, 17, 21)
        v2 = _rotate_left(v2, 32)
    return v0, v1, v2, v3


def _words(data: bytes) -> list[int]:
    """The little-endian words of section 2.2: data, zeros, the length modulo 256."""
    zeros = bytes(7 - len(data) % 8)
    padded = data + zeros + bytes([len(data) % 256])
    return [word for (word,) in struct.iter_unpack("<Q", padded)]


def siphash(key: bytes, data: bytes, compression_rounds: int, finalization_rounds: int) -> int:
    """SipHash-c-d of ``data`` under a 16-byte key, as a 64-bit number (the paper, section 2).

    Raises ``ValueError`` for a key of another length.
    """
    if len(key) != 16:
        raise ValueError(f"a SipHash key has 16 bytes, not {len(key)}")
    k0, k1 = struct.unpack("<2Q", key)
    i0, i1, i2, i3 = _INITIAL
    state: State = (k0 ^ i0, k1 ^ i1, k0 ^ i2, k1 ^ i3)
    for word in _words(data):
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _sip_rounds((v0, v1, v2, v3 ^ word), compression_rounds)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _sip_rounds((v0, v1, v2 ^ 0xFF, v3), finalization_rounds)
    return v0 ^ v1 ^ v2 ^ v3


def siphash_1_3(key: bytes, data: bytes) -> int:
    """SipHash-1-3: one compression round, three finalization rounds (wire.md, section 1)."""
    return siphash(key, data, 1, 3)
