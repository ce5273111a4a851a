"""A route netlink socket: whole tables in, many changes out (rtnetlink(7))."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Self

from controlplane.domain.errors import BrigadeError
from lb.agent.netlink.messages import HEADER, Message, messages

ERROR = struct.Struct("=i")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
ADD = NLM_F_CREATE | NLM_F_EXCL
ADD_OR_REPLACE = NLM_F_CREATE | NLM_F_REPLACE
ADD_OR_APPEND = NLM_F_CREATE | NLM_F_APPEND
SOL_NETLINK = 270
NETLINK_GET_STRICT_CHK = 12
"""Linux 4.20: a dump's request can name the table, and dumps no route caches."""

BUFFER_BYTES = 1 << 16
BATCH, GET_BATCH = 64, 16
"""Requests sent at once; their acknowledgements, or answers, fit any receive buffer."""
TIMEOUT_SECONDS = 10.0
DUMP_TRIES = 5
NO_SUCH_TABLE = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
"""The kernel does not have this table, or this address family."""


class NetlinkError(OSError):
    """The kernel refused a request."""

    def __init__(self, code: int) -> None:
        super().__init__(code, os.strerror(code))


@dataclass(frozen=True)
class Request:
    """A request; ``flags`` are those beside the ones that every request has."""

    kind: int
    body: bytes
    flags: int = 0


class RouteSocket:
    """A socket of the network namespace in which it was opened. A context manager.

    Raises:
        NetlinkError: of any method: the kernel refuses.
        OSError: it does not answer.

    """

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The port in notifications about changes that this socket requested."""
        return int(self._socket.getsockname()[0])

    def get(self, kind: int, body: bytes) -> bytes:
        """Return the body of the one object that a request asks for."""
        answer = next(self._answers([Request(kind, body)]))
        if answer.kind == NLMSG_ERROR:
            raise NetlinkError(error_in(answer))
        return answer.body

    def get_each(self, kind: int, bodies: Sequence[bytes]) -> list[bytes | None]:
        """Return the one object that each request asks for, ``None`` where the kernel refuses."""
        found: list[bytes | None] = []
        for start in range(0, len(bodies), GET_BATCH):
            batch = [Request(kind, body) for body in bodies[start : start + GET_BATCH]]
            answers = islice(self._answers(batch), len(batch))
            found += [None if a.kind == NLMSG_ERROR else a.body for a in answers]
        return found

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all objects of a kind; none if the kernel has no such table."""
        for _ in range(DUMP_TRIES):
            found, consistent = self._dump(Request(kind, body, NLM_F_DUMP))
            if consistent:
                break
        return found

    def _dump(self, request: Request) -> tuple[list[bytes], bool]:
        """Return what the kernel sent, and whether the table did not change meanwhile."""
        found: list[bytes] = []
        consistent = True
        for answer in self._answers([request]):
            consistent &= not answer.flags & NLM_F_DUMP_INTR
            if answer.kind in (NLMSG_DONE, NLMSG_ERROR):
                code = error_in(answer)
                if code and code not in NO_SUCH_TABLE:
                    raise NetlinkError(code)
                break
            found.append(answer.body)
        return found, consistent

    def change(self, requests: Sequence[Request]) -> list[int]:
        """Request changes, in this order; return an error number for each, 0 for success."""
        errors: list[int] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            answers = self._answers(batch, NLM_F_ACK)
            acknowledgements = (a for a in answers if a.kind == NLMSG_ERROR)
            errors += map(error_in, islice(acknowledgements, len(batch)))
        return errors

    def _answers(self, requests: Iterable[Request], flags: int = 0) -> Iterator[Message]:
        """Send requests; yield the answers to them, and not those to requests that timed out."""
        data = b""
        first = self._sequence + 1
        for request in requests:
            self._sequence += 1
            all_flags = NLM_F_REQUEST | flags | request.flags
            length = HEADER.size + len(request.body)
            data += HEADER.pack(length, request.kind, all_flags, self._sequence, 0) + request.body
            data += bytes(-length % 4)
        self._socket.send(data)
        while True:
            for message in messages(self._socket.recv(BUFFER_BYTES)):
                if message.sequence >= first:
                    yield message


def error_in(message: Message) -> int:
    """Return the error number in a message that ends an answer; 0 for success."""
    return int(-ERROR.unpack_from(message.body)[0])


def require(netlink: RouteSocket, request: Request) -> None:
    """Request a change that has to be made.

    Raises:
        NetlinkError: the kernel refuses.

    """
    for code in netlink.change([request]):
        if code:
            raise NetlinkError(code)


@contextmanager
def netlink_errors(what: str, remedy: str = "") -> Iterator[None]:
    """Turn a refusal by the kernel into one line: "cannot <what>: <reason>"."""
    try:
        yield
    except NetlinkError as error:
        reason = f"{error.strerror}{'; ' if remedy else ''}{remedy}"
        raise BrigadeError(f"cannot {what}: {reason}") from error
