"""Packets as servers send them to each other (wire.md, section 2), right and wrong ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from tests.model.frames.ip import ipv4
from tests.model.headers import PROTOCOL_UDP


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
    proto: int | None = None,
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
    """An IPv4 packet that carries ``inner`` as wire.md, section 2, says. It has no Ethernet.

    ``proto`` follows from the first bits of ``inner`` unless it is given: 41 for version 6, else 4.
    """
    if proto is None:
        proto = 41 if inner[:1] and inner[0] >> 4 == 6 else 4
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
