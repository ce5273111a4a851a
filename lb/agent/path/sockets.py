"""The raw sockets of path probes: one to send, one that receives ICMP."""

from __future__ import annotations

import ctypes
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from lb.agent.path.packet import TOKEN_BYTES, Probe, filter_program, wrapped

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""Send what fits the interface, whatever the kernel believes of the path (ip(7))."""
SO_ATTACH_FILTER = 26
KEPT_BYTES = 128
MOST_READ = 1024
"""Packets read at one time; the rest stays in the socket's buffer."""


class ProbeSockets:
    """Sends probes from the DIP and receives what comes back. A random identifier is its own.

    Raises ``OSError``: the DIP is not on this machine, or raw sockets are not allowed.
    """

    def __init__(
        self,
        own: IPv4Address,
        gue_port: int,
        token: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.own = own
        self.gue_port = gue_port
        self._token = token
        self._identifier = 1 + secrets.randbelow(0xFFFF)
        self._sequence = 0
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._in = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        try:
            self._out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            self._attach(filter_program(own, self._identifier, gue_port))
            for one in (self._out, self._in):
                one.setblocking(False)  # noqa: FBT003 - the name of the call explains it
                one.bind((str(own), 0))
        except OSError:
            self.close()
            raise

    def make(self, target: IPv4Address, size: int) -> Probe:
        """Return a probe with a fresh token."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        return Probe(
            source=self.own,
            target=target,
            identifier=self._identifier,
            sequence=self._sequence,
            token=self._token(TOKEN_BYTES),
            size=size,
            spread=secrets.randbits(15),
        )

    def send(self, probe: Probe) -> None:
        """Send a probe. Raises ``OSError``: this machine cannot."""
        self._out.sendto(wrapped(probe, self.gue_port), (str(probe.target), 0))

    def received(self) -> Iterator[bytes]:
        """Yield the packets that have arrived. Never blocks."""
        for _ in range(MOST_READ):
            try:
                yield self._in.recv(KEPT_BYTES)
            except BlockingIOError:
                return

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something arrives."""
        return self._in.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._out.close()
        self._in.close()

    def _attach(self, program: tuple[tuple[int, int, int, int], ...]) -> None:
        """Put a classic BPF filter on the receiver (socket(7), linux/filter.h)."""
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
        fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._in.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
