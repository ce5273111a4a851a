"""Packets cut into fragments (RFC 791, section 3.2; RFC 8200, section 4.5)."""

from __future__ import annotations

import struct

from tests.model.checksum import internet_checksum
from tests.model.frames.extension import chained, fragment_header
from tests.model.headers import IPV4_LENGTH, IPV6_LENGTH


def fragments_of(packet: bytes, size: int, *, identification: int | None = None) -> list[bytes]:
    """The fragments of a whole packet of either version, each with ``size`` bytes of payload.

    ``size`` is a multiple of 8; the last fragment has what is left. IPv4: DF is cleared, options go
    into every fragment (as if all of them said "copied"), the identification is the packet's own
    unless one is given. IPv6: the fragment header follows the IPv6 header at once, extension
    headers are part of what is cut; the identification is 0x12345678 by default.
    """
    if size <= 0 or size % 8:
        raise ValueError(f"fragments are cut at multiples of 8 bytes, not {size}")
    if packet[0] >> 4 == 6:
        return _fragments_of_ipv6(packet, size, identification)
    return _fragments_of_ipv4(packet, size, identification)


def _fragments_of_ipv4(packet: bytes, size: int, identification: int | None) -> list[bytes]:
    header_length = 4 * (packet[0] & 0x0F)
    number = packet[4:6] if identification is None else struct.pack(">H", identification)
    reserved = int.from_bytes(packet[6:8], "big") & 0x8000
    payload = packet[header_length:]

    def fragment(start: int) -> bytes:
        piece = payload[start : start + size]
        more = 0x2000 if start + size < len(payload) else 0
        lengths = struct.pack(">H", header_length + len(piece))
        flags = struct.pack(">H", reserved | more | start // 8)
        address_part = packet[12:IPV4_LENGTH] + packet[IPV4_LENGTH:header_length]
        unsummed = packet[:2] + lengths + number + flags + packet[8:10] + bytes(2) + address_part
        checksum = struct.pack(">H", internet_checksum(unsummed))
        return unsummed[:10] + checksum + unsummed[12:] + piece

    return [fragment(start) for start in range(0, len(payload), size)]


def _fragments_of_ipv6(packet: bytes, size: int, identification: int | None) -> list[bytes]:
    number = 0x12345678 if identification is None else identification
    following, payload = packet[6], packet[IPV6_LENGTH:]

    def fragment(start: int) -> bytes:
        piece = payload[start : start + size]
        more = start + size < len(payload)
        header = fragment_header(start // 8, more=more, identification=number)
        first, extension = chained([header], following)
        fields = struct.pack(">HB", len(extension) + len(piece), first)
        return packet[:4] + fields + packet[7:IPV6_LENGTH] + extension + piece

    return [fragment(start) for start in range(0, len(payload), size)]
