"""Frames for the benchmark: short TCP and UDP packets, plain or in GUE; and pcap files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from controlplane.domain.objects import TCP, UDP

FRAME_BYTES = 64
"""Length of an IPv4 frame; IPv6 with only a TCP header takes 74."""
SYN = 0x02
RST = 0x04
ACK = 0x10
OWN_MAC = bytes.fromhex("02000000aa01")
ROUTER_MAC = bytes.fromhex("02000000aafe")
Address = IPv4Address | IPv6Address
PCAP_MAGIC = 0xA1B2C3D4
ETHERNET = 1


def checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(packet: bytes, tags: bytes = b"") -> bytes:
    """Return a frame as the router sends it; `tags` are VLAN tags with their EtherTypes."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"  # noqa: PLR2004
    return OWN_MAC + ROUTER_MAC + tags + kind + packet


def ipv4(source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet."""
    length = 20 + len(payload)
    head = struct.pack(">BBHHHBB", 0x45, 0, length, 0x1234, 0x4000, 62, protocol)
    ends = source.packed + target.packed
    return head + struct.pack(">H", checksum(head + bytes(2) + ends)) + ends + payload


def ipv6(source: IPv6Address, target: IPv6Address, protocol: int, payload: bytes) -> bytes:
    """Return an IPv6 packet."""
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 62)
    return head + source.packed + target.packed + payload


def tcp(source: Address, sport: int, target: Address, port: int, flags: int) -> bytes:
    """Return a TCP packet; with IPv4 it fills a frame of 64 bytes."""
    header = struct.pack(">HHIIBBHHH", sport, port, 1, 1, 5 << 4, flags, 65535, 0, 0)
    if isinstance(source, IPv6Address) and isinstance(target, IPv6Address):
        return ipv6(source, target, TCP, header)
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        return ipv4(source, target, TCP, header.ljust(FRAME_BYTES - 34, b"x"))
    raise TypeError(f"{source} and {target} are of different IP versions")


def udp(source: IPv4Address, sport: int, target: IPv4Address, port: int) -> bytes:
    """Return a UDP packet that fills a frame of 64 bytes."""
    length = FRAME_BYTES - 34
    return ipv4(
        source, target, UDP, struct.pack(">HHHH", sport, port, length, 0).ljust(length, b"x")
    )


def gue(
    source: IPv4Address, target: IPv4Address, inner: bytes, hops: Sequence[IPv4Address] = ()
) -> bytes:
    """Return an encapsulated packet (docs/wire.md, section 2)."""
    listed = b"".join(hop.packed for hop in hops)
    proto = 41 if inner[0] >> 4 == 6 else 4  # noqa: PLR2004
    private = struct.pack(">BBHBBBB", 1 + len(hops), proto, 0, 0, 0, 0, len(hops))
    length = 8 + len(private) + len(listed) + len(inner)
    header = struct.pack(">HHHH", 0x8123, 6080, length, 0)
    return ipv4(source, target, UDP, header + private + listed + inner)


def write_pcap(path: Path, frames: Sequence[bytes]) -> None:
    """Write frames as a classic pcap file."""
    head = struct.pack("<IHHiIII", PCAP_MAGIC, 2, 4, 0, 0, 65535, ETHERNET)
    records = (struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    path.write_bytes(head + b"".join(records))
