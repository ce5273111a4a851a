"""What a server's sockets say about a flow: the one thing a redirector asks the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from typing import Protocol

from tests.model.flow import Flow


class SocketState(Enum):
    """The best match for a flow (wire.md, lines R17 to R19)."""

    NONE = "no socket"
    LISTEN = "a listening TCP socket"
    LISTEN_COOKIE = "a listening TCP socket, and the packet's ACK number is a valid SYN cookie"
    KNOWN = "a TCP socket in any state but LISTEN"
    UDP_CONNECTED = "a UDP socket whose remote end is the flow's source"
    UDP_UNCONNECTED = "a UDP socket without a remote end"


class SocketOracle(Protocol):
    """One server's sockets, asked with the fields of the inner packet, as it carries them."""

    def lookup(
        self,
        protocol: int,
        source: IPv4Address,
        source_port: int,
        destination: IPv4Address,
        destination_port: int,
    ) -> SocketState:
        """The state of the socket that would receive such a packet."""
        ...


@dataclass(frozen=True)
class SameSocket:
    """An oracle that gives one answer to every question."""

    state: SocketState = SocketState.NONE

    def lookup(
        self,
        protocol: int,
        source: IPv4Address,
        source_port: int,
        destination: IPv4Address,
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
        source: IPv4Address,
        source_port: int,
        destination: IPv4Address,
        destination_port: int,
    ) -> SocketState:
        """The flow's own socket, else the answer for all others."""
        flow = Flow(protocol, source, source_port, destination, destination_port)
        return self.flows.get(flow, self.otherwise)
