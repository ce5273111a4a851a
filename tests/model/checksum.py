"""The Internet checksum: whole (RFC 1071) and adjusted for one changed word (RFC 1624)."""

from __future__ import annotations

import struct


def _fold(total: int) -> int:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def internet_checksum(data: bytes) -> int:
    """The checksum of ``data``, an odd last byte padded with a zero (RFC 1071, section 1).

    Over a header whose checksum field is right the answer is 0.
    """
    padded = data + bytes(len(data) % 2)
    return 0xFFFF - _fold(sum(word for (word,) in struct.iter_unpack(">H", padded)))


def adjusted_checksum(checksum: int, old_word: int, new_word: int) -> int:
    """The checksum after one 16-bit word changed (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')).

    A checksum that was wrong stays wrong by the same amount.
    """
    total = (0xFFFF - checksum) + (0xFFFF - old_word) + new_word
    return 0xFFFF - _fold(total)
