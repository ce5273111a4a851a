"""The demo's UDP service: a connected socket for each client, as QUIC and game servers have it.

Answers `NUMBER` with `NAME NUMBER`. A client's first datagram reaches the shared socket, which
makes a socket connected to that client; from then on the kernel delivers there, and the redirector
can see that this server has the flow.
"""

from __future__ import annotations

import argparse
import errno
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Any

FORGET_SECONDS = 30.0
"""A client that was silent for this long is forgotten."""
DATAGRAM_BYTES = 65535
TOLD_BY_ICMP = frozenset({errno.ECONNREFUSED, errno.EMSGSIZE})
"""The client has closed its socket; an answer was too big for a link on the way, udp(7)."""
Address = Any
"""As the socket module has it: two fields for IPv4, four for IPv6."""


@dataclass
class Flow:
    """A client's connected socket."""

    sock: socket.socket
    heard_at: float


class UdpServer:
    """Serves several addresses (VIPs) at one port."""

    def __init__(self, name: str, addresses: list[str], port: int) -> None:
        self._name = name.encode()
        self._selector = selectors.DefaultSelector()
        self._flows: dict[tuple[Address, Address], Flow] = {}
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = self._socket(family, (address, port))
            self._selector.register(sock, selectors.EVENT_READ)

    @staticmethod
    def _socket(family: int, local: Address) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(0)
        sock.bind(local)
        return sock

    def serve(self) -> None:
        """Answer until the process is ended."""
        forget_at = time.monotonic() + FORGET_SECONDS
        while True:
            for key, _events in self._selector.select(timeout=FORGET_SECONDS):
                self._receive(key.fileobj)  # type: ignore[arg-type]
            if time.monotonic() > forget_at:
                self._forget(time.monotonic() - FORGET_SECONDS)
                forget_at = time.monotonic() + FORGET_SECONDS / 4

    def _receive(self, sock: socket.socket) -> None:
        while True:
            try:
                data, client = sock.recvfrom(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # Others may wait behind this.
                _expect_told_by_icmp(error)
                continue
            # A datagram can come to a fresh socket between its bind and its connect, from anyone.
            flow = self._flow(sock.family, sock.getsockname(), client)
            flow.heard_at = time.monotonic()
            try:
                flow.sock.send(self._name + b" " + data)
            except OSError as error:
                _expect_told_by_icmp(error)

    def _flow(self, family: int, local: Address, client: Address) -> Flow:
        flow = self._flows.get((local, client))
        if flow is None:
            sock = self._socket(family, local)
            sock.connect(client)
            self._selector.register(sock, selectors.EVENT_READ)
            flow = self._flows[local, client] = Flow(sock, 0.0)
        return flow

    def _forget(self, before: float) -> None:
        for key in [key for key, flow in self._flows.items() if flow.heard_at < before]:
            flow = self._flows.pop(key)
            self._selector.unregister(flow.sock)
            flow.sock.close()


def _expect_told_by_icmp(error: OSError) -> None:
    if error.errno not in TOLD_BY_ICMP:
        raise error


def main() -> None:
    """Run as `python -m lb.demo.site.udp_server`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", action="append", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    UdpServer(options.name, options.address, options.port).serve()


if __name__ == "__main__":
    main()
