"""Reading of IPv6 extension headers (wire.md, section 4.1; RFC 8200, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.model.headers import IPV6_LENGTH

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
AUTHENTICATION = 51
DESTINATION_OPTIONS = 60
EXTENSION_HEADERS = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS})

MOST_HEADERS = 6
MOST_BYTES = 256
_LEAST_LEFT = 8


class Problem(Enum):
    """Why the headers in front of the upper layer cannot be read to their end."""

    BAD_IHL = "an IPv4 header length under 5"
    TRUNCATED = "the data ends before options do, or extension headers are truncated"
    TOO_MANY = "too many extension headers, or too long ones"


@dataclass(frozen=True)
class Fragment:
    """What makes a packet a first or a later fragment.

    ``identification`` has 16 bits in IPv4, 32 in IPv6. ``protocol`` is the one that a remembered
    fragment's key has (wire.md, section 4.4): in IPv6 the fragment header's number.
    """

    identification: int
    protocol: int
    is_first: bool


@dataclass(frozen=True)
class Extensions:
    """A chain of extension headers, read.

    ``protocol`` is the number of the upper layer (of a later fragment: that in its fragment
    header), ``end`` where that begins, in bytes from the IPv6 header's first one. With a
    ``problem`` neither means anything.
    """

    protocol: int
    end: int
    fragment: Fragment | None = None
    problem: Problem | None = None


def _length(number: int, second_byte: int) -> int:
    """The bytes an extension header says it has (wire.md, section 4.1)."""
    if number == FRAGMENT:
        return 8
    if number == AUTHENTICATION:
        return (second_byte + 2) * 4
    return (second_byte + 1) * 8


def read_extensions(data: bytes, number: int) -> Extensions:
    """Read the chain behind an IPv6 header whose next-header number is ``number``.

    ``data`` starts with the IPv6 header and goes to the end of what may be read: the frame's with
    its Ethernet padding, or the inner packet's. The comments give the lines of section 4.1.

    A header may end behind the data: only its first 8 bytes are asked for, and what follows it is
    found missing when that is read.
    """
    at, seen = IPV6_LENGTH, list[int]()
    fragment: Fragment | None = None
    while number in EXTENSION_HEADERS:  # 1
        if len(seen) == MOST_HEADERS:  # 2
            return Extensions(number, at, problem=Problem.TOO_MANY)
        if len(data) - at < _LEAST_LEFT:  # 3
            return Extensions(number, at, problem=Problem.TRUNCATED)
        following, second_byte = data[at], data[at + 1]
        end = at + _length(number, second_byte)
        if end - IPV6_LENGTH > MOST_BYTES:  # 4
            return Extensions(number, at, problem=Problem.TOO_MANY)
        if number == FRAGMENT:
            if FRAGMENT in seen:  # 5
                return Extensions(number, at, problem=Problem.TRUNCATED)
            word = int.from_bytes(data[at + 2 : at + 4], "big")
            identification = int.from_bytes(data[at + 4 : at + 8], "big")
            if word >> 3:  # 6
                return Extensions(
                    following, end, Fragment(identification, following, is_first=False)
                )
            if word & 1:
                fragment = Fragment(identification, following, is_first=True)
        seen.append(number)
        number, at = following, end
    return Extensions(number, at, fragment)
