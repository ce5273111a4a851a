"""The probe's bytes (docs/wire.md, section 7) and what counts as its answer. Pure.

One TCP SYN to a VIP, wrapped in GUE and sent to the DIP under test from the prober's own address.
The server answers the prober directly: a SYN-ACK or a RST proves that its machine runs,
decapsulates and has the VIP. The prober's kernel, which knows no such connection, resets it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from controlplane.objects import TCP, UDP

IP_BYTES = 20
TCP_BYTES = 20
WRAP_BYTES = 36
SYN, RST, ACK = 0x02, 0x04, 0x10
DF = 0x4000
TTL = 64
WINDOW = 1024
GUE_AND_PRIVATE = bytes((0x01, 4, 0, 0, 0, 0, 0, 0))
"""Variant 0, hlen 1, proto IPv4, flags 0; version, reserved, next_hop and hop_count 0."""
SOURCE_PORT_BIT = 0x8000


@dataclass(frozen=True)
class Probe:
    """One SYN: where it goes and what it is known by. ``isn`` is its sequence number, 32 bits.

    ``spread`` (15 bits) stands in the outer source port, where other senders have bits of the flow
    hash: it only spreads packets over queues and paths.
    """

    dip: IPv4Address
    vip: IPv4Address
    vip_port: int
    prober: IPv4Address
    port: int
    isn: int
    spread: int = 0


@dataclass(frozen=True)
class Answer:
    """A TCP segment that may answer a probe."""

    vip: IPv4Address
    vip_port: int
    port: int
    acknowledged: int
    """The acknowledgement number, 32 bits."""


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_header(source: IPv4Address, destination: IPv4Address, protocol: int, length: int) -> bytes:
    """Return an IPv4 header: DF, id 0, TTL 64, TOS 0; ``length`` is the total, in bytes."""

    def packed(check: int) -> bytes:
        return struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            length,
            0,
            DF,
            TTL,
            protocol,
            check,
            source.packed,
            destination.packed,
        )

    return packed(checksum(packed(0)))


def syn(probe: Probe) -> bytes:
    """Return the inner packet: IPv4 and a TCP header without options, no data."""

    def packed(check: int) -> bytes:
        return struct.pack(
            "!HHIIBBHHH", probe.port, probe.vip_port, probe.isn, 0, 5 << 4, SYN, WINDOW, check, 0
        )

    pseudo = struct.pack("!4s4sBBH", probe.prober.packed, probe.vip.packed, 0, TCP, TCP_BYTES)
    segment = packed(checksum(pseudo + packed(0)))
    return ip_header(probe.prober, probe.vip, TCP, IP_BYTES + TCP_BYTES) + segment


def wrapped(probe: Probe, gue_port: int) -> bytes:
    """Return the whole packet from its outer IPv4 header on."""
    inner = syn(probe)
    length = WRAP_BYTES + len(inner)
    udp = struct.pack(
        "!HHHH", SOURCE_PORT_BIT | (probe.spread & 0x7FFF), gue_port, length - IP_BYTES, 0
    )
    return ip_header(probe.prober, probe.dip, UDP, length) + udp + GUE_AND_PRIVATE + inner


def parse_answer(packet: bytes) -> Answer | None:
    """Read what a raw TCP socket received (IP header first); ``None`` if it answers no SYN.

    Anybody can send anything: whatever the bytes are, the outcome is a value or ``None``.
    """
    if len(packet) < IP_BYTES or packet[0] >> 4 != 4 or packet[9] != TCP:  # noqa: PLR2004 IPv4
        return None
    start = (packet[0] & 0x0F) * 4
    if start < IP_BYTES or len(packet) < start + TCP_BYTES:
        return None
    vip_port, port, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", packet, start)
    if not flags & ACK or not flags & (SYN | RST):
        return None
    return Answer(IPv4Address(packet[12:16]), vip_port, port, acknowledged)


def answers(answer: Answer, probe: Probe) -> bool:
    """Whether this segment answers this probe: only who saw the SYN knows its number."""
    return (answer.vip, answer.vip_port, answer.port) == (
        probe.vip,
        probe.vip_port,
        probe.port,
    ) and answer.acknowledged == (probe.isn + 1) & 0xFFFFFFFF
