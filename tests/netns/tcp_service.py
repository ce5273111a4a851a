"""A TCP service for tests: names itself, and sends or takes as many bytes as it is asked to.

Each line of a connection is a request. `send N` is answered by the service's name, a line, and N
bytes of `CONTENT`, over and over. `take N` is followed by N bytes and answered by a line with the
name and their CRC-32. `close 0` ends the connection, the service first; `reset 0` without a word to
the client (SO_LINGER 0), `leave 0` with the client's next data unread. Needs nothing but Python's
own library: servers run it as a program.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import socketserver
import struct
import threading
import zlib

NO_LINGER = struct.pack("ii", 1, 0)
CONTENT = random.Random(1).randbytes(1 << 18)


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    server: Service

    def handle(self) -> None:
        """Answer requests until the client has none."""
        for line in self.rfile:
            word, number = line.split()
            if word in {b"close", b"reset", b"leave"}:
                self._end(word)
                return
            (self._send if word == b"send" else self._take)(int(number))

    def _end(self, how: bytes) -> None:
        if how == b"leave":
            self.request.recv(1, socket.MSG_PEEK)
        if how == b"reset":
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if how != b"close":
            os.close(self.request.detach())  # at once, without a FIN

    def _send(self, left: int) -> None:
        self.wfile.write(self.server.name + b"\n")
        while left:
            block = memoryview(CONTENT)[:left]
            self.request.sendall(block)
            left -= len(block)

    def _take(self, left: int) -> None:
        checksum = 0
        while left:
            data = self.rfile.read(min(left, len(CONTENT)))
            if not data:
                return
            checksum = zlib.crc32(data, checksum)
            left -= len(data)
        self.wfile.write(b"%s %d\n" % (self.server.name, checksum))


class Service(socketserver.ThreadingTCPServer):
    """Listens at one port of all addresses of one family."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, family: int, port: int) -> None:
        self.name = name.encode()
        self.address_family = family
        super().__init__(("", port), Handler)

    def server_bind(self) -> None:
        """Leave IPv4 to the service that is for it."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


def main() -> None:
    """Run until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, action="append", required=True)
    options = parser.parse_args()
    for port in options.port:
        for family in (socket.AF_INET, socket.AF_INET6):
            service = Service(options.name, family, port)
            threading.Thread(target=service.serve_forever, daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    main()
