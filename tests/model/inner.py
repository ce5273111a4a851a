"""The packet inside: what a redirector refuses to decapsulate, and what it reads of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.model.config import Config
from tests.model.embedded import LEAST_UPPER_LENGTH, flow_of_error, read_embedded
from tests.model.extension import EXTENSION_HEADERS, Problem
from tests.model.flow import Flow
from tests.model.gue import PROTO_IPV6, GueHeader
from tests.model.headers import (
    ICMP_LENGTH,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP_LENGTH,
    UDP_LENGTH,
    ports,
)
from tests.model.packet import IpPacket, read_packet
from tests.model.probe import is_path_probe

_TRANSPORTS = frozenset({PROTOCOL_TCP, PROTOCOL_UDP})


@dataclass(frozen=True)
class Inner:
    """An inner packet that lines R7 to R11 let through, with its bytes, Ethernet padding not."""

    packet: IpPacket
    data: bytes

    @property
    def upper(self) -> bytes:
        """From the upper-layer header to the inner packet's end."""
        return self.data[self.packet.upper_at :]

    @property
    def tcp_flags(self) -> int:
        """TCP's flags; 0 in other protocols."""
        return self.upper[13] if self.packet.protocol == PROTOCOL_TCP else 0

    @property
    def sequence(self) -> int:
        """The sequence number of a TCP packet that line R13 lets through (RFC 9293)."""
        return int.from_bytes(self.upper[4:8], "big")

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error with its 8 bytes (wire.md, line R15)."""
        return self.packet.is_icmp_error(self.upper[0])

    def flow(self) -> Flow:
        """The flow that sockets are asked about (wire.md, lines R19 to R22)."""
        if self.packet.is_icmp:
            embedded = read_embedded(self.upper, self.packet.version)
            if embedded is None:
                raise ValueError("asked for the flow of an error that line J1 drops")
            return flow_of_error(self.upper, embedded)
        source_port, destination_port = ports(self.upper)
        source, destination = self.packet.source, self.packet.destination
        return Flow(self.packet.protocol, source, source_port, destination, destination_port)


def read_inner(data: bytes, gue: GueHeader, sender: IPv4Address, config: Config) -> Inner | str:
    """Lines R7 to R11: the inner packet, or the counter of one that they drop or accept.

    ``data`` is what the outer total length leaves after the wrap, ``sender`` the outer source.
    """
    packet = read_packet(data, 6 if gue.proto == PROTO_IPV6 else 4)
    if packet is None or packet.length != len(data):  # R7, R8
        return "drop_inner_malformed"
    if packet.version == 4 and packet.problem is not None:  # R7: what of ihl is wrong
        return "drop_inner_malformed"
    if not config.is_vip(packet.destination):  # R9
        return "accept_path_probe" if is_path_probe(data, gue, sender, config) else "drop_not_vip"
    if packet.problem is not None:  # R10
        return _unreadable(packet.problem)
    if packet.fragment is not None and not _is_fragment_for_us(packet):  # R11
        return "drop_inner_protocol"
    return Inner(packet, data)


def _unreadable(problem: Problem) -> str:
    """Lines R10 and J3."""
    if problem is Problem.TOO_MANY:
        return "drop_inner_ext_headers"
    return "drop_inner_malformed"


def _is_fragment_for_us(packet: IpPacket) -> bool:
    if packet.version == 6 and packet.is_later_fragment:
        return packet.protocol in _TRANSPORTS | EXTENSION_HEADERS
    return packet.protocol in _TRANSPORTS


def upper_problem(inner: Inner) -> str | None:
    """Lines R13 to R15: the counter of a packet that may not be delivered, else None.

    Not for a later fragment, which has no upper-layer header.
    """
    packet, upper = inner.packet, inner.upper
    if _is_upper_malformed(packet, upper):  # R13
        return "drop_inner_malformed"
    if packet.protocol in _TRANSPORTS:
        return None
    if packet.is_icmp and packet.is_echo_request(upper[0], upper[1]):
        return None
    if packet.is_icmp and inner.is_error:  # R15
        return _error_problem(packet, upper)
    return "drop_inner_protocol"  # R14


def _is_upper_malformed(packet: IpPacket, upper: bytes) -> bool:
    if packet.is_icmp:
        return len(upper) < ICMP_LENGTH
    if packet.protocol == PROTOCOL_UDP:
        return len(upper) < UDP_LENGTH
    if packet.protocol != PROTOCOL_TCP:
        return False
    return len(upper) < TCP_LENGTH or not TCP_LENGTH <= 4 * (upper[12] >> 4) <= len(upper)


def _error_problem(packet: IpPacket, error: bytes) -> str | None:
    """Lines J1 to J5."""
    embedded = read_embedded(error, packet.version)
    if embedded is None:  # J1
        return "drop_inner_malformed"
    if embedded.source != packet.destination:  # J2
        return "drop_not_vip"
    if embedded.problem is not None:  # J3
        return _unreadable(embedded.problem)
    if embedded.is_later_fragment or embedded.protocol not in _TRANSPORTS:  # J4
        return "drop_inner_protocol"
    if len(error) < ICMP_LENGTH + embedded.upper_at + LEAST_UPPER_LENGTH:  # J5
        return "drop_inner_malformed"
    return None
