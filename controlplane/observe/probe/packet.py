"""The bytes of a probe (docs/wire.md, section 7) and of its answers. Pure.

One TCP SYN to a VIP, wrapped in GUE and sent to the DIP under test from the prober's own address.
The server answers the prober directly: a SYN-ACK or a RST proves that its machine runs,
decapsulates and has the VIP. The prober's kernel does not know the connection and resets it.
A probe of an IPv6 VIP has an IPv6 source of the same machine, inside the same outer IPv4 header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from controlplane.domain.objects import TCP, UDP, Address
from controlplane.domain.overhead import WRAP_BYTES

IP_BYTES = 20
TCP_BYTES = 20
SYN, RST, ACK = 0x02, 0x04, 0x10
DF = 0x4000
TTL = 64
WINDOW = 1024
IPV6 = 6
GUE_PROTO = {4: 4, IPV6: 41}
"""GUE's protocol number of the inner packet, by its IP version."""
SOURCE_PORT_BIT = 0x8000


@dataclass(frozen=True)
class Probe:
    """One SYN. ``isn`` is its sequence number, 32 bits.

    ``prober`` is the outer source, ``source`` the inner one, of the VIP's IP version. ``spread``
    (15 bits) is part of the outer source port, where other senders put bits of the flow hash: it
    spreads packets over queues and paths. ``service``: the checked service at this VIP and port, so
    that a reset is a sign of it; empty if a reset only shows that the machine runs.
    """

    dip: IPv4Address
    vip: Address
    vip_port: int
    prober: IPv4Address
    source: Address
    port: int
    isn: int
    spread: int = 0
    service: str = ""


@dataclass(frozen=True)
class ProbeAnswer:
    """A TCP segment that may answer a probe. ``reset``: nothing listens there."""

    vip: Address
    vip_port: int
    port: int
    acknowledged: int
    """The acknowledgement number, 32 bits."""
    reset: bool = False


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_header(source: IPv4Address, destination: IPv4Address, protocol: int, length: int) -> bytes:
    """Return an IPv4 header: DF, id 0, TTL 64, TOS 0; ``length`` is the total, in bytes."""
    addresses = source.packed + destination.packed

    def packed(check: int) -> bytes:
        start = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, DF, TTL, protocol, check)
        return start + addresses

    return packed(checksum(packed(0)))


def ipv6_header(source: IPv6Address, destination: IPv6Address, protocol: int, size: int) -> bytes:
    """Return an IPv6 header: traffic class, flow label 0, hop limit 64; ``size`` without it."""
    fixed = struct.pack("!IHBB", IPV6 << 28, size, protocol, TTL)
    return fixed + source.packed + destination.packed


def syn(probe: Probe) -> bytes:
    """Return the inner packet: IPv4 or IPv6 and a TCP header without options, no data."""

    def packed(check: int) -> bytes:
        return struct.pack(
            "!HHIIBBHHH", probe.port, probe.vip_port, probe.isn, 0, 5 << 4, SYN, WINDOW, check, 0
        )

    source, vip = probe.source, probe.vip
    # RFC 9293 (3.1) and RFC 8200 (8.1) differ in layout; the sum, all that matters, is the same.
    pseudo = source.packed + vip.packed + struct.pack("!HH", TCP, TCP_BYTES)
    segment = packed(checksum(pseudo + packed(0)))
    if isinstance(source, IPv6Address) and isinstance(vip, IPv6Address):
        return ipv6_header(source, vip, TCP, TCP_BYTES) + segment
    if isinstance(source, IPv4Address) and isinstance(vip, IPv4Address):
        return ip_header(source, vip, TCP, IP_BYTES + TCP_BYTES) + segment
    raise ValueError(f"a probe from {source} cannot be sent to {vip}")


def wrapped(probe: Probe, gue_port: int) -> bytes:
    """Return the whole packet from its outer IPv4 header on.

    Its TOS is the inner traffic class (docs/wire.md, section 2), which is 0.
    """
    inner = syn(probe)
    length = WRAP_BYTES + len(inner)
    udp = struct.pack(
        "!HHHH", SOURCE_PORT_BIT | (probe.spread & 0x7FFF), gue_port, length - IP_BYTES, 0
    )
    # Variant 0, hlen 1, the inner protocol, flags 0; version, reserved, next_hop, hop_count 0.
    gue = bytes((0x01, GUE_PROTO[probe.vip.version], 0, 0, 0, 0, 0, 0))
    return ip_header(probe.prober, probe.dip, UDP, length) + udp + gue + inner


def parse_answer(packet: bytes) -> ProbeAnswer | None:
    """Read a packet of a raw TCP socket (IPv4 header first); ``None`` if it is not an answer.

    Input is untrusted: for any bytes, the outcome is a value or ``None``.
    """
    if len(packet) < IP_BYTES or packet[0] >> 4 != 4 or packet[9] != TCP:  # noqa: PLR2004 IPv4
        return None
    start = (packet[0] & 0x0F) * 4
    if start < IP_BYTES:
        return None
    return parse_segment(packet[start:], IPv4Address(packet[12:16]))


def parse_segment(segment: bytes, source: Address) -> ProbeAnswer | None:
    """Read a TCP segment, as a raw IPv6 socket receives it; ``None`` if it is not an answer."""
    if len(segment) < TCP_BYTES:
        return None
    vip_port, port, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", segment)
    if not flags & ACK or not flags & (SYN | RST):
        return None
    return ProbeAnswer(source, vip_port, port, acknowledged, reset=bool(flags & RST))


def answers(answer: ProbeAnswer, probe: Probe) -> bool:
    """Whether this segment answers this probe: only a receiver of the SYN knows its number."""
    expected = (probe.vip, probe.vip_port, probe.port, (probe.isn + 1) & 0xFFFFFFFF)
    return (answer.vip, answer.vip_port, answer.port, answer.acknowledged) == expected
