"""Clients of `tcp_service` and of the demo's UDP service, and what the servers run for them."""

from __future__ import annotations

import socket
import sys
import zlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from netns.host import Host
from netns.process import Process
from netns.topology import Address
from tests.netns import tcp_service
from tests.netns.tcp_service import CONTENT

SILENCE_SECONDS = 5.0
"""A connection that makes no progress for this long is broken."""
ANSWER_SECONDS = 0.5
ASKED_TIMES = 8
CHUNK_BYTES = 1 << 18
SMALL_BUFFER_BYTES = 1 << 16

# <linux/in.h>, <linux/in6.h>: not in every Python's socket module
IP_MTU_DISCOVER, IP_MTU = 10, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
PMTUDISC_DONT, PMTUDISC_DO = 0, 2


class Place(NamedTuple):
    """Where a client connects to."""

    vip: Address
    port: int

    @property
    def family(self) -> int:
        """The address family of its sockets."""
        return socket.AF_INET6 if self.vip.version == 6 else socket.AF_INET

    @property
    def address(self) -> tuple[str, int]:
        """As sockets take it."""
        return str(self.vip), self.port


def serve_tcp(host: Host, ports: Iterable[int]) -> Process:
    """Run the TCP service on a server, at all its addresses."""
    words = [sys.executable, tcp_service.__file__, "--name", host.name]
    return host.popen([*words, *(f"--port={port}" for port in ports)], "tcp-service")


def serve_udp(host: Host, port: int, vips: Iterable[Address]) -> Process:
    """Run the demo's UDP service on a server: with a connected socket for each client."""
    words = [
        sys.executable,
        "-m",
        "lb.demo.site.udp_server",
        "--name",
        host.name,
        "--port",
        str(port),
    ]
    addresses = [f"--address={vip}" for vip in vips]
    return host.popen([*words, *addresses], f"udp-service-{port}")


class TcpClient:
    """A connection to the TCP service."""

    def __init__(
        self,
        host: Host,
        place: Place,
        *,
        small_buffer: bool = False,
        prepare: Callable[[socket.socket], None] | None = None,
    ) -> None:
        with host.entered():
            self.sock = socket.socket(place.family, socket.SOCK_STREAM)
        self.sock.settimeout(SILENCE_SECONDS)
        if small_buffer:
            # What was not read is still to be sent, then, and not in a buffer of ours.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        if prepare is not None:
            prepare(self.sock)
        try:
            self.sock.connect(place.address)
        except BaseException:
            self.sock.close()
            raise
        self._stream = self.sock.makefile("rb")
        self._left = 0
        self._read = 0

    def begin(self, size: int) -> str:
        """Ask for so many bytes, and return who sends them."""
        self.sock.sendall(b"send %d\n" % size)
        self._left, self._read = size, 0
        return self._stream.readline().decode().strip()

    def read(self, size: int | None = None) -> None:
        """Read so many of the bytes that were asked for, or all that are left."""
        left = self._left if size is None else size
        self._left -= left
        while left:
            at = self._read % len(CONTENT)
            data = self._stream.read(min(left, len(CONTENT) - at))
            assert data == CONTENT[at : at + len(data)], "wrong content"
            assert data, "the connection has ended"
            self._read += len(data)
            left -= len(data)

    def download(self, size: int) -> str:
        """Ask for so many bytes, read them, and return who sent them."""
        name = self.begin(size)
        self.read()
        return name

    def upload(self, size: int) -> str:
        """Send so many bytes, and return who took them, unchanged."""
        self.sock.sendall(b"take %d\n" % size)
        checksum, left = 0, size
        while left:
            block = memoryview(CONTENT)[:left]
            self.sock.sendall(block)
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
        name, _, received = self._stream.readline().decode().strip().partition(" ")
        assert received == str(checksum), "wrong content"
        return name

    def name(self) -> str:
        """Return who is at the other end."""
        return self.download(1)

    def close_server_first(self) -> None:
        """Make the service end the connection, then end it here: the server is in TIME-WAIT."""
        self.sock.sendall(b"close 0\n")
        assert self._stream.read() == b""
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._stream.close()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class UdpClient:
    """A connected UDP socket that asks the UDP service."""

    def __init__(self, host: Host, place: Place) -> None:
        with host.entered():
            self.sock = socket.socket(place.family, socket.SOCK_DGRAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(place.address)
        self._asked = 0

    def ask(self, size: int = 8, times: int = ASKED_TIMES) -> str:
        """Ask until there is an answer to this very question; return whose, `nobody` if none came.

        The question and its answer have `size` bytes, the answer the server's name beside them.
        """
        self._asked += 1
        question = f"{self._asked} ".encode().ljust(size, b"x")
        for _ in range(times):
            self.sock.send(question)
            try:
                while True:
                    name, _, echoed = self.sock.recv(1 << 16).partition(b" ")
                    if echoed == question:
                        return name.decode()
            except TimeoutError:
                continue
        return "nobody"

    def discover(self, how: int) -> None:
        """Say whether datagrams may be cut: one of PMTUDISC_..."""
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)

    @property
    def path_mtu(self) -> int:
        """What this host knows of the way to the server."""
        if self.sock.family == socket.AF_INET6:
            return self.sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        return self.sock.getsockopt(socket.IPPROTO_IP, IP_MTU)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
