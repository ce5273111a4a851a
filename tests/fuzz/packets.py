"""Bytes of packets, correct by default. Layouts: RFC 791, 8200, 9293, 768, 792, 4443.

Addresses are packed, 4 or 16 bytes: a campaign makes a million packets. Fields that a caller gives
are written as they are, lies included; lengths and checksums follow from the rest otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)
IPV4_TYPE, IPV6_TYPE = b"\x08\x00", b"\x86\xdd"
ROUTER_MAC = bytes.fromhex("02000000fe01")
SERVER_MAC = bytes.fromhex("020000000a01")


class Flow(NamedTuple):
    """Five fields, as the packet carries them."""

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.source) == 4 else 6

    def turned(self) -> Flow:
        """The flow of the answers."""
        return Flow(
            self.protocol,
            *(self.destination, self.destination_port),
            *(self.source, self.source_port),
        )


class Extension(NamedTuple):
    """An IPv6 extension header without its first byte, the number of what follows."""

    number: int
    body: bytes


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): a sum in ones' complement is one modulo 65,535."""
    number = int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big")
    folded = number % 0xFFFF
    return 0 if folded == 0 and number else 0xFFFF - folded


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What transport checksums cover beside the segment."""
    return source + destination + struct.pack(">II", length, protocol)


def tcp(
    flow: Flow,
    flags: int,
    payload: bytes = b"",
    *,
    numbers: tuple[int, int] = (1000, 2000),
    options: bytes = b"",
    data_offset: int | None = None,
) -> bytes:
    """A segment; `options` is a multiple of 4 bytes, `numbers` sequence and acknowledgement."""
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    head = struct.pack(
        ">HHIIBBHHH",
        *(flow.source_port, flow.destination_port, *numbers),
        *(words << 4 & 0xFF, flags, 65535, 0, 0),
    )
    segment = head + options + payload
    pseudo = pseudo_header(flow.source, flow.destination, TCP, len(segment))
    return segment[:16] + checksum(pseudo + segment).to_bytes(2, "big") + segment[18:]


def udp(flow: Flow, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """A datagram."""
    real = 8 + len(payload)
    head = struct.pack(
        ">HHHH", flow.source_port, flow.destination_port, real if length is None else length, 0
    )
    pseudo = pseudo_header(flow.source, flow.destination, UDP, real)
    value = checksum(pseudo + head + payload) or 0xFFFF
    return head[:6] + value.to_bytes(2, "big") + payload


def icmp(
    source: bytes, destination: bytes, kind: int, code: int, payload: bytes, *, rest: int = 0
) -> bytes:
    """A message of the addresses' family; `rest` are bytes 4 to 7."""
    message = struct.pack(">BBHI", kind, code, 0, rest) + payload
    covered = message
    if len(source) == 16:
        covered = pseudo_header(source, destination, ICMPV6, len(message)) + message
    return message[:2] + checksum(covered).to_bytes(2, "big") + message[4:]


def ipv4(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    tos: int = 0,
    total_length: int | None = None,
    identification: int = 0x1234,
    fragment: int = 0x4000,
    ttl: int = 61,
    options: bytes = b"",
    version: int = 4,
    ihl: int | None = None,
) -> bytes:
    """A packet; `fragment` is the whole word of flags and offset."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total_length is None else total_length
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(version << 4 | words, tos, length & 0xFFFF, identification & 0xFFFF, fragment),
        *(ttl, protocol, 0, source, destination),
    )
    value = checksum(head + options)
    return head[:10] + value.to_bytes(2, "big") + head[12:] + options + payload


def ipv6(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    extensions: Sequence[Extension] = (),
    traffic_class: int = 0,
    flow_label: int = 0,
    payload_length: int | None = None,
    hop_limit: int = 61,
    version: int = 6,
) -> bytes:
    """A packet; each extension header gets the number of the next one."""
    chain = b""
    numbers = [*(extension.number for extension in extensions), protocol]
    for extension, following in zip(extensions, numbers[1:], strict=True):
        chain += bytes([following]) + extension.body
    length = len(chain) + len(payload) if payload_length is None else payload_length
    first = version << 28 | traffic_class << 20 | flow_label
    head = struct.pack(
        ">IHBB16s16s", first, length & 0xFFFF, numbers[0], hop_limit, source, destination
    )
    return head + chain + payload


def fragment_header(
    offset: int, *, more: bool, identification: int, reserved: int = 0
) -> Extension:
    """An IPv6 fragment header; `offset` counts units of 8 bytes (RFC 8200, section 4.5)."""
    word = offset << 3 | (reserved & 3) << 1 | more
    return Extension(
        FRAGMENT, struct.pack(">BHI", reserved >> 2, word, identification & 0xFFFFFFFF)
    )


def ip(flow: Flow, payload: bytes, tos: int = 0, extensions: Sequence[Extension] = ()) -> bytes:
    """A whole packet of a flow's family around its transport segment; IPv4 has no extensions."""
    if flow.version == 4:
        return ipv4(flow.source, flow.destination, flow.protocol, payload, tos=tos)
    return ipv6(
        flow.source, flow.destination, flow.protocol, payload,
        traffic_class=tos, extensions=extensions,
    )  # fmt: skip


def ethernet(
    packet: bytes, tags: Sequence[tuple[int, int]] = (), destination: bytes = SERVER_MAC
) -> bytes:
    """A frame around a packet; `tags` are (EtherType, tag), outermost first."""
    kind = IPV6_TYPE if packet and packet[0] >> 4 == 6 else IPV4_TYPE
    outside = b"".join(struct.pack(">HH", *tag) for tag in tags)
    return destination + ROUTER_MAC + outside + kind + packet


def gue(
    source: bytes,
    destination: bytes,
    inner: bytes,
    hops: Sequence[bytes] = (),
    *,
    next_hop: int = 0,
    tos: int = 0,
    forward_syn: bool = False,
    port: int = 6080,
    proto: int | None = None,
) -> bytes:
    """An IPv4 packet that carries `inner` as in docs/wire.md, section 2."""
    version = inner[0] >> 4 if inner else 4
    number = proto if proto is not None else 41 if version == 6 else 4
    count = len(hops)
    head = struct.pack(">BBHBBBB", 1 + count, number, 0, 8 * forward_syn, 0, next_hop, count)
    data = head + b"".join(hops) + inner
    head = struct.pack(">HHHH", 0x8765, port, 8 + len(data), 0)
    return ipv4(source, destination, UDP, head + data, tos=tos, identification=0, ttl=64)
