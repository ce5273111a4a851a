"""Netlink messages and attributes as bytes (netlink(7), rtnetlink(7)). Pure.

What is read stays bytes until somebody looks at it: a library that makes an object of every message
takes seconds for the 10,000 routes of a server that speaks BGP, this takes milliseconds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
ATTRIBUTE = struct.Struct("=HH")
"""struct rtattr: length, type."""
NUMBER = struct.Struct("=I")
"""The value of most attributes."""
ATTRIBUTE_TYPE = 0x3FFF
NLA_F_NESTED = 0x8000
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
"""Address families by IP version."""


class Message(NamedTuple):
    """A netlink message; ``port`` is the socket that caused it."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """Yield the netlink messages in a buffer."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, offset)
        body = data[offset + HEADER.size : offset + length]
        yield Message(kind, flags, sequence, port, body)
        offset += max(HEADER.size, (length + 3) & ~3)


def attributes(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of the attributes that begin at an offset."""
    while offset + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        yield kind & ATTRIBUTE_TYPE, body[offset + ATTRIBUTE.size : offset + length]
        offset += max(ATTRIBUTE.size, (length + 3) & ~3)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute whose value is a number of 32 bits."""
    return attribute(kind, NUMBER.pack(value))
