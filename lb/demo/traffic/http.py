"""Reading one HTTP/1.1 response as it comes, by the few rules that the demo's nginx needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

HEADER_END = b"\r\n\r\n"
HEADER_BYTES_MAX = 16384
SERVER_HEADER = "x-served-by"


class BadResponse(Exception):
    """What came is no response to our request."""


class Sink(Protocol):
    """Takes the body piece by piece; a `hashlib` object does."""

    def update(self, data: bytes, /) -> None:
        """Take the next piece."""


@dataclass
class Response:
    """A response with a Content-Length, fed with what `recv` returned."""

    sink: Sink
    server: str = ""
    length: int = -1
    received: int = 0
    _head: bytearray = field(default_factory=bytearray)

    @property
    def begun(self) -> bool:
        """Whether the header is complete and a byte of the body is here (or none will come)."""
        return self.length == 0 or self.received > 0

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.length >= 0 and self.received == self.length

    def feed(self, data: bytes) -> None:
        """Take what was received.

        Raises:
            BadResponse: not a 200, no length, or more than was announced.

        """
        if self.length < 0:
            self._head += data
            head, end, data = bytes(self._head).partition(HEADER_END)
            if not end:
                if len(self._head) > HEADER_BYTES_MAX:
                    raise BadResponse("no end of the header")
                return
            self._parse(head.decode("latin-1"))
        self.sink.update(data)
        self.received += len(data)
        if self.received > self.length:
            raise BadResponse(f"{self.received} bytes instead of {self.length}")

    def _parse(self, head: str) -> None:
        status, *lines = head.split("\r\n")
        if status.split(" ")[:2] != ["HTTP/1.1", "200"]:
            raise BadResponse(status)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if not headers.get("content-length", "").isdigit():
            raise BadResponse("no Content-Length")
        self.length = int(headers["content-length"])
        self.server = headers.get(SERVER_HEADER, "")


def request(host: str, path: str, *, keep: bool) -> bytes:
    """Return a GET request; with `keep` the connection stays open after the response."""
    connection = "keep-alive" if keep else "close"
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n".encode()
