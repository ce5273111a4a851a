"""The packet that an ICMP error speaks of: one that a server sent to a client."""

from __future__ import annotations

from tests.model.extension import Problem
from tests.model.flow import Flow
from tests.model.headers import ICMP_LENGTH, ports
from tests.model.packet import IpPacket, read_packet

# Of its upper layer an error need not carry more (RFC 792): ports and TCP's sequence number.
LEAST_UPPER_LENGTH = 8


def read_embedded(error: bytes, version: int) -> IpPacket | None:
    """The embedded packet, as wire.md, lines I4 and J1, accept it; else None.

    ``error`` goes from the ICMP header to the end of what may be read, ``version`` is that of the
    packet around it. Options and extension headers may still have a problem.
    """
    embedded = read_packet(error[ICMP_LENGTH:], version)
    if embedded is None or embedded.problem is Problem.BAD_IHL:
        return None
    return embedded


def flow_of_error(error: bytes, embedded: IpPacket) -> Flow:
    """The client's flow: the embedded one turned round (wire.md, section 4.3)."""
    upper = error[ICMP_LENGTH + embedded.upper_at :]
    source_port, destination_port = ports(upper)
    return Flow(
        embedded.protocol,
        embedded.source,
        source_port,
        embedded.destination,
        destination_port,
    ).turned_round()
