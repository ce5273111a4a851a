"""What a server's own network stack makes of a frame that the programs let through."""

from __future__ import annotations

from enum import Enum

from tests.model.headers import (
    ETHERNET_LENGTH,
    ETHERTYPE_IPV4,
    IPV4_LENGTH,
    PROTOCOL_ICMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    Ipv4Header,
    can_carry_cookie,
    ether_type,
    is_syn,
    ports,
)
from tests.model.sockets import SocketOracle, SocketState


class Outcome(Enum):
    """How a packet's way ends."""

    DROPPED = "a program dropped it"
    LOST = "it was sent to an address where no server is"
    DELIVERED = "a socket or the stack that knows the flow has it"
    OPENED = "it opened a flow at a socket that takes new ones"
    REFUSED = "the stack answers with a reset or port unreachable"
    OTHER = "not TCP, UDP or ICMP over IPv4, or too short for it: none of the model's business"


def received(frame: bytes, sockets: SocketOracle) -> Outcome:
    """The outcome of a frame in the local stack (RFC 9293 section 3.10.7, RFC 1122 section 4.1.3).

    Simple on purpose: checksums, sequence numbers and routes are taken to be right.
    """
    transport_at = ETHERNET_LENGTH + IPV4_LENGTH
    if len(frame) < transport_at + 8 or ether_type(frame) != ETHERTYPE_IPV4:
        return Outcome.OTHER
    ip = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    if (ip.version, ip.ihl, ip.is_fragment) != (4, 5, False):
        return Outcome.OTHER
    if ip.protocol == PROTOCOL_ICMP:
        return Outcome.DELIVERED
    if ip.protocol not in {PROTOCOL_TCP, PROTOCOL_UDP}:
        return Outcome.OTHER
    transport = frame[transport_at:]
    source_port, destination_port = ports(transport)
    state = sockets.lookup(ip.protocol, ip.source, source_port, ip.destination, destination_port)
    if ip.protocol == PROTOCOL_UDP:
        return _udp(state)
    return _tcp(state, transport[13]) if len(transport) >= 20 else Outcome.OTHER


def _udp(state: SocketState) -> Outcome:
    if state is SocketState.UDP_CONNECTED:
        return Outcome.DELIVERED
    return Outcome.OPENED if state is SocketState.UDP_UNCONNECTED else Outcome.REFUSED


def _tcp(state: SocketState, flags: int) -> Outcome:
    if state is SocketState.KNOWN:
        return Outcome.DELIVERED
    if state is SocketState.LISTEN_COOKIE and can_carry_cookie(flags):
        return Outcome.DELIVERED
    listens = state in {SocketState.LISTEN, SocketState.LISTEN_COOKIE}
    return Outcome.OPENED if listens and is_syn(flags) else Outcome.REFUSED
