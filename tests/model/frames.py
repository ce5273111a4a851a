"""Frames for tests, right by default and wrong wherever a test says so.

Every field that a check of wire.md looks at can be overridden; lengths and checksums follow from
the rest unless they are. Layouts: RFC 791, RFC 9293, RFC 768, RFC 792, wire.md section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from tests.model.checksum import internet_checksum
from tests.model.headers import PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN

ROUTER_MAC = bytes.fromhex("02000000fe01")
SERVER_MAC = bytes.fromhex("020000000a01")


def ethernet(
    payload: bytes,
    *,
    destination: bytes = SERVER_MAC,
    source: bytes = ROUTER_MAC,
    kind: int = 0x0800,
) -> bytes:
    """A frame around a payload."""
    return destination + source + struct.pack(">H", kind) + payload


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    version: int = 4,
    ihl: int | None = None,
    tos: int = 0,
    total_length: int | None = None,
    identification: int = 0x1234,
    fragment: int = 0x4000,
    ttl: int = 61,
    checksum: int | None = None,
    options: bytes = b"",
) -> bytes:
    """A packet. ``fragment`` is the whole word of flags and offset, ``options`` a multiple of 4."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total_length is None else total_length

    def header(value: int) -> bytes:
        fixed = struct.pack(
            ">BBHHHBBH4s4s",
            version << 4 | words,
            tos,
            length,
            identification,
            fragment,
            ttl,
            protocol,
            value,
            source.packed,
            destination.packed,
        )
        return fixed + options

    return header(internet_checksum(header(0)) if checksum is None else checksum) + payload


def _transport_checksum(
    source: IPv4Address, destination: IPv4Address, protocol: int, segment: bytes
) -> int:
    pseudo = source.packed + destination.packed + struct.pack(">HH", protocol, len(segment))
    return internet_checksum(pseudo + segment)


def tcp_packet(
    source: IPv4Address,
    source_port: int,
    destination: IPv4Address,
    destination_port: int,
    *,
    flags: int = TCP_SYN,
    data_offset: int = 5,
    payload: bytes = b"",
    tos: int = 0,
) -> bytes:
    """An IPv4 packet with one TCP segment, checksums right."""

    def segment(checksum: int) -> bytes:
        fields = (source_port, destination_port, 1000, 2000)
        rest = (data_offset << 4, flags, 65535, checksum, 0)
        return struct.pack(">HHIIBBHHH", *fields, *rest) + payload

    checksum = _transport_checksum(source, destination, PROTOCOL_TCP, segment(0))
    return ipv4(source, destination, PROTOCOL_TCP, segment(checksum), tos=tos)


def udp_packet(
    source: IPv4Address,
    source_port: int,
    destination: IPv4Address,
    destination_port: int,
    *,
    payload: bytes = b"",
    tos: int = 0,
) -> bytes:
    """An IPv4 packet with one UDP datagram, checksums right."""

    def datagram(checksum: int) -> bytes:
        length = 8 + len(payload)
        return struct.pack(">HHHH", source_port, destination_port, length, checksum) + payload

    checksum = _transport_checksum(source, destination, PROTOCOL_UDP, datagram(0)) or 0xFFFF
    return ipv4(source, destination, PROTOCOL_UDP, datagram(checksum), tos=tos)


def icmp_packet(
    source: IPv4Address,
    destination: IPv4Address,
    *,
    kind: int = 8,
    code: int = 0,
    payload: bytes = b"",
    tos: int = 0,
) -> bytes:
    """An IPv4 packet with one ICMP message, an echo request by default."""

    def message(checksum: int) -> bytes:
        return struct.pack(">BBHHH", kind, code, checksum, 7, 1) + payload

    body = message(internet_checksum(message(0)))
    return ipv4(source, destination, PROTOCOL_ICMP, body, tos=tos)


def gue_packet(
    source: IPv4Address,
    destination: IPv4Address,
    inner: bytes,
    hops: Sequence[IPv4Address] = (),
    *,
    gue_port: int = 6080,
    source_port: int = 0x8765,
    udp_length: int | None = None,
    udp_checksum: int = 0,
    variant: int = 0,
    control: int = 0,
    hlen: int | None = None,
    proto: int = 4,
    gue_flags: int = 0,
    private_version: int = 0,
    private_flags: int = 0,
    reserved: int = 0,
    next_hop: int = 0,
    hop_count: int | None = None,
    tos: int = 0,
    total_length: int | None = None,
    outer_checksum: int | None = None,
    fragment: int = 0x4000,
    version: int = 4,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet that carries ``inner`` as wire.md, section 2, says. It has no Ethernet."""
    count = len(hops) if hop_count is None else hop_count
    first = variant << 6 | control << 5 | (1 + count if hlen is None else hlen)
    gue = struct.pack(">BBH", first, proto, gue_flags)
    private = struct.pack(">BBBB", private_version << 4 | private_flags, reserved, next_hop, count)
    data = gue + private + b"".join(hop.packed for hop in hops) + inner
    length = 8 + len(data) if udp_length is None else udp_length
    udp = struct.pack(">HHHH", source_port, gue_port, length, udp_checksum)
    return ipv4(
        source,
        destination,
        PROTOCOL_UDP,
        udp + data,
        version=version,
        tos=tos,
        total_length=total_length,
        identification=0,
        fragment=fragment,
        ttl=64,
        checksum=outer_checksum,
        options=options,
    )
