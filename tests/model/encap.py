"""The wrap of wire.md, section 2: outer IPv4, UDP, GUE, private data and the hop list."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from tests.model.addresses import Address
from tests.model.checksum import internet_checksum
from tests.model.headers import IPV4_LENGTH, PROTOCOL_UDP
from tests.model.packet import IpPacket

_DONT_FRAGMENT = 0x4000
_TTL = 64
_PROTO_OF = {4: 4, 6: 41}


def wrap_length(hop_count: int) -> int:
    """Bytes that the wrap adds in front of the inner packet."""
    return 36 + 4 * hop_count


def room(depth: int) -> int:
    """Bytes that a wrap takes at most in a pool whose table is so deep (wire.md, section 2)."""
    return wrap_length(depth - 1)


def ipv4_header(
    tos: int, total_length: int, protocol: int, source: Address, destination: Address
) -> bytes:
    """A header as this server writes it: id 0, DF, TTL 64, the checksum computed whole."""

    def packed(checksum: int) -> bytes:
        return struct.pack(
            ">BBHHHBBH4s4s",
            0x45,
            tos,
            total_length,
            0,
            _DONT_FRAGMENT,
            _TTL,
            protocol,
            checksum,
            source.packed,
            destination.packed,
        )

    return packed(internet_checksum(packed(0)))


def wrap(
    inner: IpPacket,
    source: IPv4Address,
    visits: tuple[IPv4Address, ...],
    source_port: int,
    gue_port: int,
) -> bytes:
    """Everything that stands between the Ethernet header and the inner packet.

    ``visits`` is the first hop and then the hop list; an IPv6 packet, too, travels inside IPv4.
    """
    hops = visits[1:]
    total_length = inner.length + wrap_length(len(hops))
    outer = ipv4_header(inner.tos, total_length, PROTOCOL_UDP, source, visits[0])
    udp = struct.pack(">HHHH", source_port, gue_port, total_length - IPV4_LENGTH, 0)
    gue = struct.pack(">BBH", 1 + len(hops), _PROTO_OF[inner.version], 0)
    private = struct.pack(">BBBB", 0, 0, 0, len(hops))
    return outer + udp + gue + private + b"".join(hop.packed for hop in hops)
