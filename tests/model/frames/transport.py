"""TCP and UDP in packets of either family, checksums right. Layouts: RFC 9293, RFC 768."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.model.addresses import Address
from tests.model.frames.extension import Extension
from tests.model.frames.ip import ip_packet, transport_checksum
from tests.model.headers import PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN


def tcp_packet(
    source: Address,
    source_port: int,
    destination: Address,
    destination_port: int,
    *,
    flags: int = TCP_SYN,
    numbers: tuple[int, int] = (1000, 2000),
    data_offset: int = 5,
    payload: bytes = b"",
    tos: int = 0,
    options: bytes = b"",
    headers: Sequence[Extension] = (),
    fragment: int = 0x4000,
) -> bytes:
    """A packet with one TCP segment. The last four are as in ``ip_packet``.

    ``numbers`` are the sequence and the acknowledgement number, modulo 2^32.
    """

    def segment(checksum: int) -> bytes:
        fields = (source_port, destination_port, *(number % (1 << 32) for number in numbers))
        rest = (data_offset << 4, flags, 65535, checksum, 0)
        return struct.pack(">HHIIBBHHH", *fields, *rest) + payload

    checksum = transport_checksum(source, destination, PROTOCOL_TCP, segment(0))
    return ip_packet(
        source,
        destination,
        PROTOCOL_TCP,
        segment(checksum),
        tos=tos,
        options=options,
        headers=headers,
        fragment=fragment,
    )


def udp_packet(
    source: Address,
    source_port: int,
    destination: Address,
    destination_port: int,
    *,
    payload: bytes = b"",
    tos: int = 0,
    options: bytes = b"",
    headers: Sequence[Extension] = (),
    fragment: int = 0x4000,
) -> bytes:
    """A packet with one UDP datagram. The last four are as in ``ip_packet``."""

    def datagram(checksum: int) -> bytes:
        length = 8 + len(payload)
        return struct.pack(">HHHH", source_port, destination_port, length, checksum) + payload

    checksum = transport_checksum(source, destination, PROTOCOL_UDP, datagram(0)) or 0xFFFF
    return ip_packet(
        source,
        destination,
        PROTOCOL_UDP,
        datagram(checksum),
        tos=tos,
        options=options,
        headers=headers,
        fragment=fragment,
    )
