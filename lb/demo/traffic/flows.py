"""The flows of the demo: downloads, idle connections, short connections, UDP queries.

Each is a non-blocking socket. A visit does what is due and returns the time until the next visit,
so that one thread can hold thousands of flows.
"""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import PurePosixPath

from lb.demo.traffic.http import BadResponse, Exchange
from lb.demo.traffic.verdicts import Outcome, Patience, UdpVerdict

CONNECT_VISIT_SECONDS = 0.02
DOWNLOAD_VISIT_SECONDS = 0.25
IDLE_VISIT_SECONDS = 1.0
UDP_VISIT_SECONDS = 0.5
FLUSH_VISIT_SECONDS = 0.005
WAIT_VISIT_SECONDS = 0.02

DOWNLOAD_BYTES_A_VISIT = 2048
"""8 kB/s: the client reads slowly and lets TCP's window hold the server back."""
DOWNLOAD_BUFFER_BYTES = 8192
FLUSH_BYTES = 65536
DATAGRAM_BYTES = 2048


@dataclass(frozen=True)
class Target:
    """Destination of a flow."""

    address: str
    port: int


class Flow(ABC):
    """One flow. ``name`` has the form that `ss` on a server shows: protocol, address, port.

    ``outcome`` is the outcome so far, ``server`` is empty until it is known.
    """

    kind = ""
    protocol = "tcp"

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = ""
        self.server = ""
        self.outcome = Outcome.GOOD
        self.opened = False
        self.finishing = False
        self.ended = False
        self._sock: socket.socket | None = None

    @abstractmethod
    def visit(self, now: float) -> float:
        """Do what is due, and return the seconds until the next visit."""

    def finish(self) -> None:
        """From the next visit on, complete the flow; after that it must still be good."""
        self.finishing = True

    def close(self) -> None:
        """Close the socket; the flow has ended."""
        self.ended = True
        if self._sock is not None:
            self._sock.close()


class TcpFlow(Flow):
    """A TCP connection with an HTTP request on it."""

    keep = True

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(target)
        self.path = path
        self.patience = Patience()
        self.response = Exchange()
        self.requested = False

    def visit(self, now: float) -> float:
        """Do what is due; an error of the network becomes the outcome."""
        try:
            if self._sock is None:
                return self._connect(now)
            if not self.requested and self._is_connected():
                self.send_request(now)
            delay = self.proceed(now) if self.requested else CONNECT_VISIT_SECONDS
        except ConnectionRefusedError:
            return self._fail(Outcome.REFUSED)
        except (ConnectionResetError, BrokenPipeError):
            return self._fail(Outcome.RESET)
        except BadResponse:
            return self._fail(Outcome.WRONG_CONTENT)
        except OSError as error:
            silent = error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
            if not silent:
                raise
            return self._fail(Outcome.SILENT)
        if self.patience.is_over(now):
            return self._fail(Outcome.SILENT)
        return delay

    def _connect(self, now: float) -> float:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(0)
        self.prepare(sock)
        self._sock = sock
        self.patience.due(now)
        code = sock.connect_ex((self.target.address, self.target.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        host, port = sock.getsockname()
        self.name = f"tcp {host}:{port}"
        return CONNECT_VISIT_SECONDS

    def _is_connected(self) -> bool:
        sock = self.sock
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code != 0:
            # OSError creates the subclass of this error number.
            raise OSError(code, "connect")
        try:
            sock.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return False
            raise
        return True

    @property
    def sock(self) -> socket.socket:
        """The socket, which exists from the first visit on."""
        if self._sock is None:
            raise ValueError("not connected yet")
        return self._sock

    def prepare(self, sock: socket.socket) -> None:
        """Set the socket's options before it connects."""

    def send_request(self, now: float) -> None:
        """Send the request."""
        self.response, self.requested = Exchange(), True
        self.sock.send(self.response.request(self.target.address, self.path, keep=self.keep))
        self.patience.progress(now)

    def receive(self, limit: int, now: float) -> bool:
        """Receive once, and return whether there was data.

        Raises:
            BadResponse: the server closed the connection, or the response is wrong.

        """
        try:
            data = self.sock.recv(limit)
        except BlockingIOError:
            return False
        if not data:
            self.outcome = Outcome.CLOSED
            raise BadResponse("closed early")
        self.patience.progress(now)
        self.response.feed(data)
        self.server = self.server or self.response.server
        return True

    def _fail(self, outcome: Outcome) -> float:
        if self.outcome is Outcome.GOOD:
            self.outcome = outcome
        self.close()
        return 0.0

    @abstractmethod
    def proceed(self, now: float) -> float:
        """Continue with a connection whose request is sent."""


class Download(TcpFlow):
    """A slow download of a file that is named after the hash of its content."""

    kind = "download"
    keep = False

    def prepare(self, sock: socket.socket) -> None:
        """Use a small receive buffer, so that most of the file stays at the server."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DOWNLOAD_BUFFER_BYTES)

    def proceed(self, now: float) -> float:
        """Read a little, or, when finishing, everything."""
        response = self.response
        received = self.receive(FLUSH_BYTES if self.finishing else DOWNLOAD_BYTES_A_VISIT, now)
        self.opened = self.opened or response.begun
        if response.complete:
            if response.body.hexdigest() != PurePosixPath(self.path).stem:
                raise BadResponse("the content does not match the hash in the name")
            self.close()
        if self.finishing:
            return FLUSH_VISIT_SECONDS
        return DOWNLOAD_VISIT_SECONDS if received else WAIT_VISIT_SECONDS


class Idle(TcpFlow):
    """A connection that is used once, stays idle, and is used again at the end."""

    kind = "idle"

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(target, path)
        self._used_again = False

    def proceed(self, now: float) -> float:
        """Read the response that is due; while idle, notice if the connection is closed."""
        response = self.response
        if self.opened and self.finishing and not self._used_again:
            self._used_again = True
            self.send_request(now)
            return WAIT_VISIT_SECONDS
        self.receive(FLUSH_BYTES, now)
        if not response.complete:
            return WAIT_VISIT_SECONDS
        self.patience.done()
        self.opened = True
        if self._used_again:
            if response.server != self.server:
                raise BadResponse(f"{response.server} answers instead of {self.server}")
            self.close()
        return IDLE_VISIT_SECONDS


class Short(TcpFlow):
    """A connection with one request."""

    kind = "short"
    keep = False

    def proceed(self, now: float) -> float:
        """Read the response."""
        if self.receive(FLUSH_BYTES, now) and self.response.complete:
            self.opened = True
            self.close()
        return WAIT_VISIT_SECONDS


class UdpFlow(Flow):
    """A query every half second from one socket; all answers must come from one server.

    ``source_port`` should be one that no flow had before. While a server still has the socket of an
    earlier client with the same address and port, it correctly treats this flow as that client.
    """

    kind = "udp"
    protocol = "udp"

    def __init__(self, target: Target, source_port: int = 0) -> None:
        super().__init__(target)
        self.source_port = source_port
        self.verdict = UdpVerdict()
        self._number = 0
        self._query_at = 0.0
        self._last_number = 0

    def visit(self, now: float) -> float:
        """Read answers, and send a query if it is due."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sock.settimeout(0)
            self._sock.bind(("", self.source_port))
            self._sock.connect((self.target.address, self.target.port))
            host, port = self._sock.getsockname()
            self.name = f"udp {host}:{port}"
        if self.finishing and not self._last_number:
            self._last_number = self._number + 1
            self._query_at = now
        done = self._receive(self._sock, now) >= self._last_number > 0
        self.verdict.tick(now)
        self.server, self.outcome = self.verdict.server, self.verdict.outcome
        if self.outcome is not Outcome.GOOD or done:
            self.close()
            return 0.0
        if now >= self._query_at:
            self._send_query(self._sock, now)
            self._query_at = now + UDP_VISIT_SECONDS
        waits = self.finishing or not self.opened
        return WAIT_VISIT_SECONDS if waits else self._query_at - now

    def _send_query(self, sock: socket.socket, now: float) -> None:
        self._number += 1
        self.verdict.query_sent(now)
        try:
            sock.send(b"%d" % self._number)
        except (ConnectionRefusedError, BlockingIOError):
            # Nobody listens there at the moment. The query stays unanswered, which is what counts.
            return

    def _receive(self, sock: socket.socket, now: float) -> int:
        """Read all answers, and return the highest number that was answered, or 0."""
        highest = 0
        while True:
            try:
                data = sock.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return highest
            except ConnectionRefusedError:
                continue
            server, _, number = data.decode(errors="replace").rpartition(" ")
            if not number.isdigit() or not 0 < int(number) <= self._number:
                self.verdict.garbled()
            else:
                self.verdict.answered(server, now)
                self.opened = True
                highest = max(highest, int(number))
