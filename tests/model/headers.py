"""Reading of the headers that packets bring: Ethernet, IPv4, IPv6, TCP flags, ports.

Field layouts: IEEE 802.3, RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792. Nothing is judged here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ETHERNET_LENGTH = 14
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

IPV4_LENGTH = 20
IPV6_LENGTH = 40
TCP_LENGTH = 20
UDP_LENGTH = 8
ICMP_LENGTH = 8

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_ICMPV6 = 58

TCP_SYN = 0x02
TCP_RST = 0x04
TCP_ACK = 0x10


def ether_type(frame: bytes) -> int:
    """The EtherType of a frame of at least 14 bytes (IEEE 802.3)."""
    return int.from_bytes(frame[12:14], "big")


@dataclass(frozen=True)
class Ipv4Header:
    """The fixed 20 bytes of an IPv4 header (RFC 791, section 3.1).

    ``ihl`` counts 32-bit words, ``fragment_offset`` units of 8 bytes.
    """

    version: int
    ihl: int
    tos: int
    total_length: int
    identification: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    protocol: int
    checksum: int
    source: IPv4Address
    destination: IPv4Address

    @classmethod
    def parse(cls, data: bytes) -> Ipv4Header:
        """Read the first 20 bytes of ``data``; ``struct.error`` if there are fewer."""
        first, tos, total, identification, fragment, _, protocol, checksum, source, destination = (
            struct.unpack(">BBHHHBBH4s4s", data[:IPV4_LENGTH])
        )
        return cls(
            version=first >> 4,
            ihl=first & 0x0F,
            tos=tos,
            total_length=total,
            identification=identification,
            dont_fragment=bool(fragment & 0x4000),
            more_fragments=bool(fragment & 0x2000),
            fragment_offset=fragment & 0x1FFF,
            protocol=protocol,
            checksum=checksum,
            source=IPv4Address(source),
            destination=IPv4Address(destination),
        )

    @property
    def is_fragment(self) -> bool:
        """MF set or an offset that is not 0; DF and the reserved bit do not matter."""
        return self.more_fragments or self.fragment_offset != 0


@dataclass(frozen=True)
class Ipv6Header:
    """The 40 bytes of an IPv6 header (RFC 8200, section 3)."""

    version: int
    traffic_class: int
    payload_length: int
    next_header: int
    source: IPv6Address
    destination: IPv6Address

    @classmethod
    def parse(cls, data: bytes) -> Ipv6Header:
        """Read the first 40 bytes of ``data``; ``struct.error`` if there are fewer."""
        first, payload_length, next_header, _, source, destination = struct.unpack(
            ">IHBB16s16s", data[:IPV6_LENGTH]
        )
        return cls(
            version=first >> 28,
            traffic_class=(first >> 20) & 0xFF,
            payload_length=payload_length,
            next_header=next_header,
            source=IPv6Address(source),
            destination=IPv6Address(destination),
        )


def ports(transport: bytes) -> tuple[int, int]:
    """Source and destination port of a TCP or UDP header (RFC 9293 section 3.1, RFC 768)."""
    source, destination = struct.unpack(">HH", transport[:4])
    return source, destination


def is_syn(flags: int) -> bool:
    """SYN set, ACK and RST clear, whatever else is set (wire.md, line R18)."""
    return flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN


def can_carry_cookie(flags: int) -> bool:
    """ACK set, SYN and RST clear, whatever else is set (wire.md, line R20)."""
    return flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_ACK
