"""The UDP service of the demo: a connected socket for each client, as in QUIC or game servers.

It answers `NUMBER` with `NAME NUMBER`. The first datagram of a client reaches the shared socket.
The service then opens a socket that is connected to this client. From then on the kernel delivers
to that socket, and the redirector can see that this server has the flow.
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
"""The socket of a client that sent nothing for this long is closed."""
DATAGRAM_BYTES = 65535
TRANSIENT_ERRORS = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EMSGSIZE,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EADDRNOTAVAIL,
        errno.EINVAL,
    }
)
"""The client has closed its socket, an answer was too big for a link on its path, udp(7), or this
machine has no route to the client or not the VIP at the moment. One answer is lost, no more.
"""
Address = Any
"""An address of the socket module: two fields for IPv4, four for IPv6."""


@dataclass
class ClientSocket:
    """A client's connected socket."""

    sock: socket.socket
    received_at: float


class UdpServer:
    """Serves several addresses (VIPs) at one port."""

    def __init__(
        self, name: str, addresses: list[str], port: int, forget_seconds: float = FORGET_SECONDS
    ) -> None:
        self._name = name.encode()
        self._forget_seconds = forget_seconds
        self._selector = selectors.DefaultSelector()
        self._clients: dict[tuple[Address, Address], ClientSocket] = {}
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
        patience = self._forget_seconds
        forget_at = time.monotonic() + patience
        while True:
            for key, _events in self._selector.select(timeout=patience / 4):
                self._receive(key.fileobj)  # type: ignore[arg-type]
            if time.monotonic() > forget_at:
                self._forget(time.monotonic() - patience)
                forget_at = time.monotonic() + patience / 4

    def _receive(self, sock: socket.socket) -> None:
        while True:
            try:
                data, client = sock.recvfrom(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # An ICMP error is reported once; datagrams may be queued after it.
                _raise_unless_transient(error)
                continue
            try:
                # Between bind and connect, a new socket can receive a datagram of any client.
                own = self._client_socket(sock.family, sock.getsockname(), client)
                own.received_at = time.monotonic()
                own.sock.send(self._name + b" " + data)
            except OSError as error:
                _raise_unless_transient(error)

    def _client_socket(self, family: int, local: Address, client: Address) -> ClientSocket:
        found = self._clients.get((local, client))
        if found is None:
            sock = self._socket(family, local)
            try:
                sock.connect(client)
            except OSError:
                sock.close()
                raise
            self._selector.register(sock, selectors.EVENT_READ)
            found = self._clients[local, client] = ClientSocket(sock, 0.0)
        return found

    def _forget(self, before: float) -> None:
        for key in [key for key, own in self._clients.items() if own.received_at < before]:
            own = self._clients.pop(key)
            self._selector.unregister(own.sock)
            own.sock.close()


def _raise_unless_transient(error: OSError) -> None:
    if error.errno not in TRANSIENT_ERRORS:
        raise error


def main() -> None:
    """Run as `python -m lb.demo.site.udp_server`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", action="append", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--forget-seconds", type=float, default=FORGET_SECONDS)
    options = parser.parse_args()
    UdpServer(options.name, options.address, options.port, options.forget_seconds).serve()


if __name__ == "__main__":
    main()
