"""One HTTP/1.1 request and its response, for non-blocking sockets: bytes in, bytes out."""

from __future__ import annotations

import hashlib

import h11

SERVER_HEADER = b"x-served-by"
LENGTH_HEADER = b"content-length"
OK = 200


class BadResponse(Exception):
    """What came is not the response that the demo's servers give."""


class Exchange:
    """A request, and a response with a Content-Length that is fed with what `recv` returned.

    ``body`` is the hash of the body so far.
    """

    def __init__(self) -> None:
        self.body = hashlib.sha256()
        self.server = ""
        self.received = 0
        self.complete = False
        self._connection = h11.Connection(h11.CLIENT)

    @property
    def begun(self) -> bool:
        """Whether the header is complete and a byte of the body is here (or none will come)."""
        return self.complete or self.received > 0

    def request(self, host: str, path: str, *, keep: bool) -> bytes:
        """Return a GET request; with `keep` the connection stays open after the response."""
        headers = [("Host", host), ("Connection", "keep-alive" if keep else "close")]
        events = (h11.Request(method="GET", target=path, headers=headers), h11.EndOfMessage())
        return b"".join(self._connection.send(event) or b"" for event in events)

    def feed(self, data: bytes) -> None:
        """Take what was received.

        Raises:
            BadResponse: not a 200, no length, or more than was announced.

        """
        try:
            self._connection.receive_data(data)
            while not self.complete:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            raise BadResponse(str(error)) from error
        if self._connection.trailing_data[0]:
            raise BadResponse("more than was announced")

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Response):
            headers = dict(event.headers)
            if event.status_code != OK or event.http_version != b"1.1":
                raise BadResponse(f"HTTP/{event.http_version.decode()} {event.status_code}")
            if LENGTH_HEADER not in headers:
                raise BadResponse("no Content-Length")
            self.server = headers.get(SERVER_HEADER, b"").decode("latin-1")
        elif isinstance(event, h11.Data):
            self.body.update(event.data)
            self.received += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self.complete = True
        else:
            raise BadResponse(f"unexpected {type(event).__name__}")
