"""The executor of rows whose programs run in the kernel, and the sockets that rows ask for."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

from tests.dataplane.own_netns import OwnNetns
from tests.dataplane.rig import Rig
from tests.model import Config, Flow, Memory, Result, SocketState, redirect
from tests.packets.row import Packet, Program
from tests.packets.world import HTTP, HTTP6, flow
from tests.tcp_repair import RCV_NXT, establish

NUMBERS = {SocketState.KNOWN: RCV_NXT, SocketState.OTHER_NUMBERS: RCV_NXT + (1 << 31)}
"""What the socket expects next."""
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
IPV6_IN_GUE, PROTO_AT = 41, 43


class Asked:
    """An oracle that notes what it is asked for."""

    def __init__(self) -> None:
        self.flow: Flow | None = None

    def lookup(self, *fields: object) -> SocketState:
        """Note the flow."""
        self.flow = Flow(*fields)  # type: ignore[arg-type]  # the protocol's arguments, in order
        return SocketState.NONE


def flow_of(frame: bytes, config: Config) -> Flow:
    """The flow whose socket decides about a frame, or one of its family if no socket does."""
    asked = Asked()
    redirect(frame, config, asked, Memory())
    return asked.flow or flow(HTTP6 if frame[PROTO_AT] == IPV6_IN_GUE else HTTP)


class InKernel:
    """Runs packets in the programs of a rig, in a server's network namespace."""

    def __init__(self, rig: Rig, netns: OwnNetns) -> None:
        self.rig, self._netns = rig, netns

    def forget(self) -> None:
        """Remember nothing of earlier packets."""
        self.rig.forget()

    def configure(self, config: Config) -> None:
        """Know a configuration."""
        self.rig.configure(config)

    def run(self, program: Program, packet: Packet) -> Result:
        """What the program does with a packet, whose flow has the socket of the row."""
        if program == "forwarder":
            return self.forward(packet.frame)
        state = packet.state or SocketState.NONE

        def ask() -> Result:
            with ExitStack() as sockets:
                if state is not SocketState.NONE:
                    open_socket(sockets, flow_of(packet.frame, self.rig.config), state)
                return self.redirect(packet.frame)

        return self._netns.run(ask)

    def forward(self, frame: bytes) -> Result:
        """Run the forwarder."""
        return self.rig.forward(frame)

    def redirect(self, frame: bytes) -> Result:
        """Run the redirector."""
        return self.rig.redirect(frame)


def open_socket(sockets: ExitStack, flow: Flow, state: SocketState) -> None:
    """Give a flow its socket, where the caller is."""
    family = socket.AF_INET if flow.source.version == 4 else socket.AF_INET6
    here = (str(flow.destination), flow.destination_port)
    there = (str(flow.source), flow.source_port)

    def bound(kind: socket.SocketKind, address: tuple[str, int]) -> socket.socket:
        made = sockets.enter_context(socket.socket(family, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made

    if state in {SocketState.UDP_CONNECTED, SocketState.UDP_UNCONNECTED}:
        served = bound(socket.SOCK_DGRAM, here)
        if state is SocketState.UDP_CONNECTED:
            served.connect(there)
        return
    if state in NUMBERS:
        alone = sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
        establish(alone, here, there, rcv_nxt=NUMBERS[state])
        return
    listener = bound(socket.SOCK_STREAM, here)
    listener.listen()

    def connected() -> tuple[socket.socket, socket.socket]:
        client = bound(socket.SOCK_STREAM, there)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        client.connect(here)
        return client, sockets.enter_context(listener.accept()[0])

    if state is SocketState.TIME_WAIT:
        client, served = connected()
        served.close()
        client.shutdown(socket.SHUT_WR)
        client.close()
        # The next connection ends the wait, and is reset.
        sockets.callback(connected)
