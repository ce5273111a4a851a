"""Explicit congestion notification on the way out of the tunnel."""

from __future__ import annotations

import struct

from tests.model.checksum import adjusted_checksum
from tests.model.headers import Ipv4Header, Ipv6Header

NOT_ECT = 0b00
ECT_1 = 0b01
ECT_0 = 0b10
CE = 0b11


def decapsulated_ecn(inner: int, outer: int) -> int | None:
    """The ECN bits of the delivered packet; None: drop it (RFC 6040, 4.2; wire.md, 6.3)."""
    if outer == CE:
        return None if inner == NOT_ECT else CE
    if outer == ECT_1 and inner == ECT_0:
        return ECT_1
    return inner


def with_outer_mark(packet: bytes, outer_tos: int) -> bytes | None:
    """An inner packet of either family with the outer mark copied in; None: drop it."""
    is_ipv4 = packet[0] >> 4 == 4
    tos = Ipv4Header.parse(packet).tos if is_ipv4 else Ipv6Header.parse(packet).traffic_class
    ecn = decapsulated_ecn(tos & 0b11, outer_tos & 0b11)
    if ecn is None:
        return None
    marked = (tos & ~0b11) | ecn
    return _with_tos(packet, marked) if is_ipv4 else _with_traffic_class(packet, marked)


def _with_tos(packet: bytes, tos: int) -> bytes:
    """The IPv4 packet, its header checksum adjusted as RFC 1624, equation 3, says.

    AMBIGUOUS in wire.md: CE "becomes" CE and "a changed" header's checksum is adjusted. Where
    nothing changes the model adjusts nothing; equation 3 differs only for a checksum of 0xffff,
    which no right header has.
    """
    header = Ipv4Header.parse(packet)
    if header.tos == tos:
        return packet
    first = packet[0] << 8
    checksum = adjusted_checksum(header.checksum, first | header.tos, first | tos)
    return packet[:1] + bytes([tos]) + packet[2:10] + struct.pack(">H", checksum) + packet[12:]


def _with_traffic_class(packet: bytes, traffic_class: int) -> bytes:
    """The IPv6 packet; it has no checksum of its own, nor is the field in a pseudo-header."""
    word = int.from_bytes(packet[:2], "big")
    return struct.pack(">H", (word & 0xF00F) | traffic_class << 4) + packet[2:]
