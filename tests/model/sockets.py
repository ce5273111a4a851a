"""What a server's sockets say about a flow: the one thing a redirector asks the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tests.model.addresses import Address
from tests.model.flow import Flow
from tests.model.headers import TCP_ACK

_SEQUENCE_NUMBERS = 1 << 32
_FURTHEST = 1 << 28


class SocketState(Enum):
    """The best match for a flow, and for two states the packet, too (wire.md, R19 to R22, 6.5).

    ``KNOWN`` or ``OTHER_NUMBERS`` is what ``numbers_fit`` says of the packet; an ICMP error has no
    numbers of its own, so for one either will do.
    """

    NONE = "no socket"
    LISTEN = "a listening TCP socket"
    LISTEN_COOKIE = "a listening TCP socket, and the packet's ACK number is a valid SYN cookie"
    TIME_WAIT = "a TCP socket in TIME-WAIT"
    REQUEST = "a TCP socket that waits for a handshake's end"
    KNOWN = "a TCP socket in any other state"
    OTHER_NUMBERS = (
        "a TCP socket in any other state, and the packet's numbers are not of its connection"
    )
    UDP_CONNECTED = "a UDP socket whose remote end is the flow's source"
    UDP_UNCONNECTED = "a UDP socket without a remote end"


def numbers_fit(
    sequence: int, acknowledgement: int, flags: int, rcv_nxt: int, snd_nxt: int
) -> bool:
    """Whether a TCP packet is of a connection (wire.md, section 6.5, last line of the table).

    ``flags`` are TCP's; of them only ACK matters. ``rcv_nxt`` and ``snd_nxt`` are the socket's (RFC
    9293, section 3.3.1).
    """
    if not _is_near(sequence, rcv_nxt):
        return False
    return not flags & TCP_ACK or _is_near(acknowledgement, snd_nxt)


def _is_near(number: int, expected: int) -> bool:
    return (number - expected + _FURTHEST) % _SEQUENCE_NUMBERS <= 2 * _FURTHEST


class SocketOracle(Protocol):
    """One server's sockets, asked with the inner flow, as a client's packet carries it.

    For an ICMP error that is the embedded flow turned round (wire.md, line R22), so the answer is
    the same as for the client's own packets.
    """

    def lookup(
        self,
        protocol: int,
        source: Address,
        source_port: int,
        destination: Address,
        destination_port: int,
    ) -> SocketState:
        """The state of the socket that would receive a packet of this flow."""
        ...


@dataclass(frozen=True)
class SameSocket:
    """An oracle that gives one answer to every question."""

    state: SocketState = SocketState.NONE

    def lookup(
        self,
        protocol: int,
        source: Address,
        source_port: int,
        destination: Address,
        destination_port: int,
    ) -> SocketState:
        """Always the same."""
        return self.state


@dataclass(frozen=True)
class SocketTable:
    """An oracle made of flows with a socket of their own, and an answer for all others."""

    flows: Mapping[Flow, SocketState] = field(default_factory=dict)
    otherwise: SocketState = SocketState.NONE

    def lookup(
        self,
        protocol: int,
        source: Address,
        source_port: int,
        destination: Address,
        destination_port: int,
    ) -> SocketState:
        """The flow's own socket, else the answer for all others."""
        flow = Flow(protocol, source, source_port, destination, destination_port)
        return self.flows.get(flow, self.otherwise)
