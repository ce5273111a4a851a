"""The packet inside: what a redirector refuses to decapsulate, and what it reads of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.model.config import Config
from tests.model.headers import (
    ICMP_LENGTH,
    IPV4_LENGTH,
    PROTOCOL_ICMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP_LENGTH,
    UDP_LENGTH,
    Ipv4Header,
    ports,
)

_ECHO_REQUEST = b"\x08\x00"
_LEAST_LENGTHS = {
    PROTOCOL_TCP: TCP_LENGTH,
    PROTOCOL_UDP: UDP_LENGTH,
    PROTOCOL_ICMP: ICMP_LENGTH,
}


def inner_problem(packet: bytes, config: Config) -> str | None:
    """Lines R8 to R13 of wire.md: the counter of a packet that may not be delivered, else None.

    ``packet`` is what the outer total length leaves after the wrap, without Ethernet padding.
    """
    if len(packet) < IPV4_LENGTH:  # R8
        return "drop_inner_malformed"
    ip = Ipv4Header.parse(packet)
    if _is_ip_malformed(packet, ip):  # R8
        return "drop_inner_malformed"
    if not config.is_vip(ip.destination):  # R9
        return "drop_not_vip"
    if ip.ihl > 5:  # R10
        return "drop_inner_options"
    if ip.is_fragment:  # R11
        return "drop_inner_fragment"
    transport = packet[IPV4_LENGTH:]
    if _is_transport_malformed(ip.protocol, transport):  # R12
        return "drop_inner_malformed"
    if not _is_deliverable(ip.protocol, transport):  # R13
        return "drop_inner_protocol"
    return None


def _is_ip_malformed(packet: bytes, ip: Ipv4Header) -> bool:
    return (
        ip.version != 4
        or ip.ihl < 5
        or ip.total_length != len(packet)
        or ip.total_length < 4 * ip.ihl
    )


def _is_transport_malformed(protocol: int, transport: bytes) -> bool:
    if len(transport) < _LEAST_LENGTHS.get(protocol, 0):
        return True
    if protocol != PROTOCOL_TCP:
        return False
    data_offset = 4 * (transport[12] >> 4)
    return not TCP_LENGTH <= data_offset <= len(transport)


def _is_deliverable(protocol: int, transport: bytes) -> bool:
    if protocol == PROTOCOL_ICMP:
        return transport[:2] == _ECHO_REQUEST
    return protocol in {PROTOCOL_TCP, PROTOCOL_UDP}


@dataclass(frozen=True)
class InnerPacket:
    """What lines R14 to R19 of wire.md look at. Ports and flags are 0 where there are none."""

    protocol: int
    source: IPv4Address
    destination: IPv4Address
    source_port: int
    destination_port: int
    tcp_flags: int

    @classmethod
    def parse(cls, packet: bytes) -> InnerPacket:
        """Read a packet in which ``inner_problem`` found nothing wrong."""
        ip = Ipv4Header.parse(packet)
        transport = packet[IPV4_LENGTH:]
        source_port, destination_port = (0, 0) if ip.protocol == PROTOCOL_ICMP else ports(transport)
        return cls(
            protocol=ip.protocol,
            source=ip.source,
            destination=ip.destination,
            source_port=source_port,
            destination_port=destination_port,
            tcp_flags=transport[13] if ip.protocol == PROTOCOL_TCP else 0,
        )
