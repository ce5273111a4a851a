"""IPv6 extension headers (RFC 8200, section 4; RFC 4302, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.model.extension import AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING


@dataclass(frozen=True)
class Extension:
    """One extension header: its number, and its bytes but the first (the next one's number)."""

    number: int
    rest: bytes


def chained(headers: Sequence[Extension], protocol: int) -> tuple[int, bytes]:
    """The number that goes into the IPv6 header, and all extension headers in a row."""
    numbers = [header.number for header in headers] + [protocol]
    following = zip(headers, numbers[1:], strict=True)
    data = b"".join(bytes([number]) + header.rest for header, number in following)
    return numbers[0], data


def _padded(number: int, length: int) -> Extension:
    """A header of ``length`` bytes, a multiple of 8, that is zeros but for its length field."""
    return Extension(number, bytes([length // 8 - 1]) + bytes(length - 2))


def hop_by_hop(length: int = 8) -> Extension:
    """Hop-by-hop options, all of them padding."""
    return _padded(HOP_BY_HOP, length)


def routing(length: int = 8) -> Extension:
    """A routing header with no segments left."""
    return _padded(ROUTING, length)


def destination_options(length: int = 8) -> Extension:
    """Destination options, all of them padding."""
    return _padded(DESTINATION_OPTIONS, length)


def authentication(length: int = 24) -> Extension:
    """An authentication header of ``length`` bytes, a multiple of 4, its length field less 2."""
    return Extension(AUTHENTICATION, bytes([length // 4 - 2]) + bytes(length - 2))


def fragment_header(
    offset: int = 0,
    *,
    more: bool = False,
    identification: int = 0x12345678,
    reserved: int = 0,
) -> Extension:
    """A fragment header. ``offset`` counts 8 bytes, ``reserved`` is the byte and two bits."""
    word = offset << 3 | (reserved & 3) << 1 | int(more)
    return Extension(FRAGMENT, struct.pack(">BHI", reserved >> 2, word, identification))
