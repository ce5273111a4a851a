"""What a server's own network stack makes of a frame that the programs let through."""

from __future__ import annotations

from enum import Enum

from tests.model.arrival import read_arrival
from tests.model.embedded import LEAST_UPPER_LENGTH, flow_of_error, read_embedded
from tests.model.flow import Flow
from tests.model.headers import (
    ICMP_LENGTH,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP_LENGTH,
    UDP_LENGTH,
    can_carry_cookie,
    is_syn,
    ports,
)
from tests.model.packet import IpPacket
from tests.model.sockets import SocketOracle, SocketState


class Outcome(Enum):
    """How a packet's way ends."""

    DROPPED = "a program dropped it"
    LOST = "it was sent to an address where no server is"
    ANSWERED = "a forwarder answered the sender: too big"
    DELIVERED = "a socket or the stack that knows the flow has it"
    OPENED = "it opened a flow at a socket that takes new ones"
    REFUSED = "the stack answers with a reset or port unreachable"
    FRAGMENT = "the stack keeps it until it has the other fragments"
    IGNORED = "an ICMP error about a flow that no socket here has"
    OTHER = "not TCP, UDP or ICMP over IP, or too short for it: none of the model's business"


_HAVE_TCP_FLOW = {SocketState.KNOWN, SocketState.REQUEST, SocketState.OTHER_NUMBERS}


def received(frame: bytes, sockets: SocketOracle) -> Outcome:
    """The outcome of a frame in the local stack (RFC 9293 section 3.10.7, RFC 1122 section 4.1.3).

    Simple on purpose: checksums, sequence numbers and routes are taken to be right, tags to be
    those of the interface. A socket that has the flow has the packet, whatever it makes of it.
    """
    arrival = read_arrival(frame)
    if isinstance(arrival, str) or arrival.packet.problem is not None:
        return Outcome.OTHER
    packet, upper = arrival.packet, arrival.upper
    if packet.fragment is not None:
        return Outcome.FRAGMENT
    if packet.is_icmp:
        return _icmp(packet, upper, sockets)
    if packet.protocol not in {PROTOCOL_TCP, PROTOCOL_UDP} or len(upper) < UDP_LENGTH:
        return Outcome.OTHER
    source_port, destination_port = ports(upper)
    flow = Flow(packet.protocol, packet.source, source_port, packet.destination, destination_port)
    state = _ask(flow, sockets)
    if packet.protocol == PROTOCOL_UDP:
        return _udp(state)
    return _tcp(state, upper[13]) if len(upper) >= TCP_LENGTH else Outcome.OTHER


def _ask(flow: Flow, sockets: SocketOracle) -> SocketState:
    return sockets.lookup(
        flow.protocol,
        flow.source,
        flow.source_port,
        flow.destination,
        flow.destination_port,
    )


def _icmp(packet: IpPacket, message: bytes, sockets: SocketOracle) -> Outcome:
    """An echo is answered; an error goes to the socket it is about (RFC 1122, section 3.2.2)."""
    if len(message) < ICMP_LENGTH:
        return Outcome.OTHER
    if not packet.is_icmp_error(message[0]):
        return Outcome.DELIVERED
    embedded = read_embedded(message, packet.version)
    if embedded is None or embedded.problem is not None or embedded.is_later_fragment:
        return Outcome.IGNORED
    if len(message) < ICMP_LENGTH + embedded.upper_at + LEAST_UPPER_LENGTH:
        return Outcome.IGNORED
    state = _ask(flow_of_error(message, embedded), sockets)
    is_owned = state in _HAVE_TCP_FLOW | {SocketState.UDP_CONNECTED}
    return Outcome.DELIVERED if is_owned else Outcome.IGNORED


def _udp(state: SocketState) -> Outcome:
    if state is SocketState.UDP_CONNECTED:
        return Outcome.DELIVERED
    return Outcome.OPENED if state is SocketState.UDP_UNCONNECTED else Outcome.REFUSED


def _tcp(state: SocketState, flags: int) -> Outcome:
    if state in _HAVE_TCP_FLOW:
        return Outcome.DELIVERED
    if state is SocketState.LISTEN_COOKIE and can_carry_cookie(flags):
        return Outcome.DELIVERED
    if state is SocketState.TIME_WAIT:
        return Outcome.OPENED if is_syn(flags) else Outcome.DELIVERED
    listens = state in {SocketState.LISTEN, SocketState.LISTEN_COOKIE}
    return Outcome.OPENED if listens and is_syn(flags) else Outcome.REFUSED
