"""IP packets around payloads. Layouts: RFC 791; RFC 8200."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from tests.model.addresses import Address
from tests.model.checksum import internet_checksum
from tests.model.frames.extension import Extension, chained


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    version: int = 4,
    ihl: int | None = None,
    tos: int = 0,
    total_length: int | None = None,
    identification: int = 0x1234,
    fragment: int = 0x4000,
    ttl: int = 61,
    checksum: int | None = None,
    options: bytes = b"",
) -> bytes:
    """A packet. ``fragment`` is the whole word of flags and offset, ``options`` a multiple of 4."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total_length is None else total_length

    def header(value: int) -> bytes:
        fixed = struct.pack(
            ">BBHHHBBH4s4s",
            version << 4 | words,
            tos,
            length,
            identification,
            fragment,
            ttl,
            protocol,
            value,
            source.packed,
            destination.packed,
        )
        return fixed + options

    return header(internet_checksum(header(0)) if checksum is None else checksum) + payload


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    protocol: int,
    payload: bytes,
    *,
    version: int = 6,
    traffic_class: int = 0,
    flow_label: int = 0x12345,
    payload_length: int | None = None,
    hop_limit: int = 61,
    headers: Sequence[Extension] = (),
) -> bytes:
    """A packet. ``protocol`` is the upper layer's, behind the extension ``headers``."""
    number, extensions = chained(headers, protocol)
    rest = extensions + payload
    length = len(rest) if payload_length is None else payload_length
    first = version << 28 | traffic_class << 20 | flow_label
    fixed = struct.pack(">IHBB", first, length, number, hop_limit)
    return fixed + source.packed + destination.packed + rest


def ip_packet(
    source: Address,
    destination: Address,
    protocol: int,
    payload: bytes,
    *,
    tos: int = 0,
    options: bytes = b"",
    headers: Sequence[Extension] = (),
    fragment: int = 0x4000,
) -> bytes:
    """A packet of the addresses' family. ``options`` and ``fragment`` are for IPv4 only.

    ``headers`` are for IPv6 only. ``ValueError`` for what the family has not.
    """
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        if headers:
            raise ValueError("IPv4 has no extension headers")
        return ipv4(
            source, destination, protocol, payload, tos=tos, options=options, fragment=fragment
        )
    if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
        if options:
            raise ValueError("IPv6 has no options in its header")
        return ipv6(source, destination, protocol, payload, traffic_class=tos, headers=headers)
    raise ValueError(f"{source} and {destination} are of two families")


def transport_checksum(source: Address, destination: Address, protocol: int, segment: bytes) -> int:
    """The checksum with the pseudo-header of RFC 9293, section 3.1, or RFC 8200, section 8.1."""
    addresses = source.packed + destination.packed
    layout = ">HH" if isinstance(source, IPv4Address) else ">II"
    rest = (protocol, len(segment)) if isinstance(source, IPv4Address) else (len(segment), protocol)
    return internet_checksum(addresses + struct.pack(layout, *rest) + segment)
