"""ICMP messages in packets of either family, checksums right. Layouts: RFC 792, RFC 4443."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from tests.model.addresses import Address
from tests.model.checksum import internet_checksum
from tests.model.frames.extension import Extension
from tests.model.frames.ip import ip_packet, transport_checksum
from tests.model.headers import PROTOCOL_ICMP, PROTOCOL_ICMPV6

_ECHO_ID_AND_SEQUENCE = 7 << 16 | 1


def icmp_packet(
    source: Address,
    destination: Address,
    *,
    kind: int | None = None,
    code: int = 0,
    word: int = _ECHO_ID_AND_SEQUENCE,
    payload: bytes = b"",
    tos: int = 0,
    options: bytes = b"",
    headers: Sequence[Extension] = (),
    fragment: int = 0x4000,
) -> bytes:
    """A packet with one message of its family, an echo request by default.

    ``word`` is what stands in bytes 4 to 7. The last four are as in ``ip_packet``.
    """
    is_ipv4 = isinstance(source, IPv4Address)
    number = (8 if is_ipv4 else 128) if kind is None else kind

    def message(checksum: int) -> bytes:
        return struct.pack(">BBHI", number, code, checksum, word) + payload

    if is_ipv4:
        protocol, checksum = PROTOCOL_ICMP, internet_checksum(message(0))
    else:
        protocol = PROTOCOL_ICMPV6
        checksum = transport_checksum(source, destination, protocol, message(0))
    return ip_packet(
        source,
        destination,
        protocol,
        message(checksum),
        tos=tos,
        options=options,
        headers=headers,
        fragment=fragment,
    )


def source_of(packet: bytes) -> Address:
    """The source address of a packet of either version, which is right."""
    if packet[0] >> 4 == 6:
        return IPv6Address(packet[8:24])
    return IPv4Address(packet[12:16])


def icmp_error(
    source: Address,
    about: bytes,
    *,
    destination: Address | None = None,
    kind: int | None = None,
    code: int | None = None,
    mtu: int = 1400,
    tos: int = 0,
    options: bytes = b"",
    headers: Sequence[Extension] = (),
    fragment: int = 0x4000,
) -> bytes:
    """An error from the router ``source`` about a packet, which may be cut short.

    It goes to the packet's source unless ``destination`` says otherwise. The default is
    fragmentation needed, packet too big in IPv6. The last four are as in ``ip_packet``.
    """
    is_ipv4 = isinstance(source, IPv4Address)
    return icmp_packet(
        source,
        source_of(about) if destination is None else destination,
        kind=(3 if is_ipv4 else 2) if kind is None else kind,
        code=(4 if is_ipv4 else 0) if code is None else code,
        word=mtu,
        payload=about,
        tos=tos,
        options=options,
        headers=headers,
        fragment=fragment,
    )
