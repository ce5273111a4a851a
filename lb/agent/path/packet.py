"""The bytes of a path probe (docs/wire.md, section 7.2) and of what comes back. Pure.

An ICMP echo request from DIP to DIP inside the encapsulation. The answer is the stack's ordinary
echo reply, without encapsulation.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from controlplane.domain.overhead import WRAP_BYTES

IP_BYTES, ICMP_BYTES, UDP_BYTES = 20, 8, 8
TOKEN_BYTES = 16
DF = 0x4000
TTL = 64
ECHO_REPLY, UNREACHABLE, ECHO = 0, 3, 8
TOO_BIG = 4
"""Code of "fragmentation needed" (RFC 792, RFC 1191)."""
SMALL_BYTES = WRAP_BYTES + 64
"""Outer total length of a small probe."""
SOURCE_PORT_BIT = 0x8000
GUE = bytes((0x01, 4, 0, 0, 0, 0, 0, 0))
"""Variant 0, hlen 1, IPv4 inside, flags 0; version, reserved, next_hop, hop_count 0."""


@dataclass(frozen=True)
class Probe:
    """One echo request. ``size`` is the outer total length in bytes, ``token`` unpredictable.

    ``spread`` (15 bits) is part of the outer source port: it spreads probes over equal paths.
    """

    source: IPv4Address
    target: IPv4Address
    identifier: int
    sequence: int
    token: bytes
    size: int = SMALL_BYTES
    spread: int = 0


@dataclass(frozen=True)
class EchoReply:
    """An answer. ``length`` is its total length with the IP header, in bytes."""

    source: IPv4Address
    identifier: int
    token: bytes
    length: int


@dataclass(frozen=True)
class TooBig:
    """An ICMP error: an encapsulated packet to ``target`` did not fit a link of this MTU.

    Anybody can forge one, so it is a hint and nothing more.
    """

    target: IPv4Address
    mtu: int


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip_header(source: IPv4Address, target: IPv4Address, protocol: int, length: int) -> bytes:
    """Return an IPv4 header: DF, id 0, TTL 64, TOS 0; ``length`` is the total, in bytes."""

    def packed(check: int) -> bytes:
        start = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, DF, TTL, protocol, check)
        return start + source.packed + target.packed

    return packed(checksum(packed(0)))


def _echo_request(probe: Probe, payload_bytes: int) -> bytes:
    data = probe.token.ljust(payload_bytes, b"\0")

    def packed(check: int) -> bytes:
        header = struct.pack("!BBHHH", ECHO, 0, check, probe.identifier, probe.sequence)
        return header + data

    return packed(checksum(packed(0)))


def wrapped(probe: Probe, gue_port: int) -> bytes:
    """Return the whole packet from its outer IPv4 header on; the UDP checksum is 0."""
    inner_bytes = probe.size - WRAP_BYTES
    inner = _ip_header(probe.source, probe.target, socket.IPPROTO_ICMP, inner_bytes)
    inner += _echo_request(probe, inner_bytes - IP_BYTES - ICMP_BYTES)
    port = SOURCE_PORT_BIT | (probe.spread & 0x7FFF)
    udp = struct.pack("!HHHH", port, gue_port, probe.size - IP_BYTES, 0)
    return (
        _ip_header(probe.source, probe.target, socket.IPPROTO_UDP, probe.size) + udp + GUE + inner
    )


def parse(packet: bytes) -> EchoReply | TooBig | None:
    """Read a packet of a raw ICMP socket, IPv4 header first; ``None`` if it is something else.

    Input is untrusted: for any bytes, the outcome is a value or ``None``.
    """
    if len(packet) < IP_BYTES or packet[9] != socket.IPPROTO_ICMP:
        return None
    start = (packet[0] & 0x0F) * 4
    if start < IP_BYTES or len(packet) < start + ICMP_BYTES:
        return None
    kind, code, _, first, second = struct.unpack_from("!BBHHH", packet, start)
    data = packet[start + ICMP_BYTES :]
    if (kind, code) == (ECHO_REPLY, 0) and len(data) >= TOKEN_BYTES:
        (length,) = struct.unpack_from("!H", packet, 2)
        return EchoReply(IPv4Address(packet[12:16]), first, data[:TOKEN_BYTES], length)
    quoted = len(data) >= IP_BYTES and data[0] == 0x45 and data[9] == socket.IPPROTO_UDP  # noqa: PLR2004 version 4, 5 words
    if (kind, code) == (UNREACHABLE, TOO_BIG) and quoted:
        return TooBig(IPv4Address(data[16:20]), second)
    return None


Filter = tuple[tuple[int, int, int, int], ...]
"""A classic BPF program (code, jt, jf, k) for a raw ICMP socket. It keeps the start of a packet."""


def answer_filter(identifier: int) -> Filter:
    """Return the filter that keeps answers with our identifier.

    Other ICMP of this machine would push them out of the socket's buffer.
    """
    return (
        (0xB1, 0, 0, 0),  # x = length of the IP header
        (0x50, 0, 0, 0),  # a = ICMP type
        (0x15, 0, 3, ECHO_REPLY),
        (0x48, 0, 0, 4),  # a = identifier
        (0x15, 0, 1, identifier),
        (0x06, 0, 0, 128),  # keep so many bytes
        (0x06, 0, 0, 0),  # refuse
    )


def error_filter(own: IPv4Address, gue_port: int) -> Filter:
    """Return the filter that keeps "fragmentation needed" about our packets to the GUE port."""
    return (
        (0xB1, 0, 0, 0),  # x = length of the IP header
        (0x50, 0, 0, 0),  # a = ICMP type
        (0x15, 0, 11, UNREACHABLE),
        (0x50, 0, 0, 1),  # a = ICMP code
        (0x15, 0, 9, TOO_BIG),
        (0x50, 0, 0, 8),  # a = version and header length of the quoted packet
        (0x15, 0, 7, 0x45),
        (0x50, 0, 0, 17),  # a = its protocol
        (0x15, 0, 5, socket.IPPROTO_UDP),
        (0x40, 0, 0, 20),  # a = its source
        (0x15, 0, 3, int(own)),
        (0x48, 0, 0, 30),  # a = its destination port
        (0x15, 0, 1, gue_port),
        (0x06, 0, 0, 128),  # keep so many bytes
        (0x06, 0, 0, 0),  # refuse
    )
