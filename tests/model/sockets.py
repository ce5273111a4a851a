"""What a server's sockets say about a flow: the one thing a redirector asks the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tests.model.addresses import Address
from tests.model.flow import Flow


class SocketState(Enum):
    """The best match for a flow (wire.md, lines R19 to R22)."""

    NONE = "no socket"
    LISTEN = "a listening TCP socket"
    LISTEN_COOKIE = "a listening TCP socket, and the packet's ACK number is a valid SYN cookie"
    TIME_WAIT = "a TCP socket in TIME-WAIT"
    KNOWN = "a TCP socket in any other state"
    UDP_CONNECTED = "a UDP socket whose remote end is the flow's source"
    UDP_UNCONNECTED = "a UDP socket without a remote end"


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
