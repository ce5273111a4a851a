"""Route netlink in bulk: whole tables in, many changes out (rtnetlink(7)).

What is read stays bytes until somebody looks at it: a library that makes an object of every message
takes seconds for the 10,000 routes of a server that speaks BGP, this takes milliseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, kind, flags, sequence number, port."""
ATTRIBUTE = struct.Struct("=HH")
ERROR = struct.Struct("=i")
ATTRIBUTE_KIND = 0x3FFF
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
SOL_NETLINK = 270
NETLINK_GET_STRICT_CHK = 12
"""Linux 4.20: a dump's request can name the table, and dumps no route caches."""

BUFFER_BYTES = 1 << 16
BATCH = 64
"""Requests sent at once; their acknowledgements fit any receive buffer."""
PATIENCE_SECONDS = 10.0
DUMP_TRIES = 5
NOTHING_THERE = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
"""No such table, or no such family in this kernel."""


@dataclass(frozen=True)
class Request:
    """A change to be asked for: ``flags`` beside those that each request has."""

    kind: int
    body: bytes
    flags: int = 0


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (kind, flags, port, body) of each netlink message in a buffer."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, _sequence, port = HEADER.unpack_from(data, offset)
        yield kind, flags, port, data[offset + HEADER.size : offset + length]
        offset += max(HEADER.size, (length + 3) & ~3)


def attributes(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, value) of the attributes that begin at an offset."""
    while offset + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        yield kind & ATTRIBUTE_KIND, body[offset + ATTRIBUTE.size : offset + length]
        offset += max(ATTRIBUTE.size, (length + 3) & ~3)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


class RouteSocket:
    """A route netlink socket of the network namespace that it was opened in. A context manager.

    Raises:
        OSError: of any method: the kernel refuses, or does not answer.

    """

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """What messages that tell of this socket's own changes are marked with."""
        return int(self._socket.getsockname()[0])

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all objects of a kind; none where the kernel has no such table."""
        for _ in range(DUMP_TRIES):
            self._send([Request(kind, body, NLM_F_DUMP)])
            found, whole = self._dumped()
            if whole:
                break
        return found

    def _dumped(self) -> tuple[list[bytes], bool]:
        """Return what the kernel sent, and whether it did not change meanwhile."""
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, _port, body in messages(self._socket.recv(BUFFER_BYTES)):
                whole &= not flags & NLM_F_DUMP_INTR
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    code = -ERROR.unpack_from(body)[0]
                    if code and code not in NOTHING_THERE:
                        raise OSError(code, os.strerror(code))
                    return found, whole
                found.append(body)

    def change(self, requests: Sequence[Request]) -> list[int]:
        """Ask for changes, in this order; return each one's error number, 0 if it was made."""
        errors: list[int] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            self._send(batch, NLM_F_ACK)
            errors += self._acknowledged(len(batch))
        return errors

    def _acknowledged(self, count: int) -> list[int]:
        errors: list[int] = []
        while len(errors) < count:
            for kind, _flags, _port, body in messages(self._socket.recv(BUFFER_BYTES)):
                if kind == NLMSG_ERROR:
                    errors.append(-ERROR.unpack_from(body)[0])
        return errors

    def _send(self, requests: Iterable[Request], flags: int = 0) -> None:
        data = b""
        for request in requests:
            self._sequence += 1
            all_flags = NLM_F_REQUEST | flags | request.flags
            length = HEADER.size + len(request.body)
            data += HEADER.pack(length, request.kind, all_flags, self._sequence, 0) + request.body
            data += bytes(-length % 4)
        self._socket.send(data)


RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26


RTM_GETLINK = 18


LINK_MESSAGE_BYTES = 16
"""struct ifinfomsg."""


LINK_INDEX_OFFSET = 4


IFLA_MTU = 4


class Netlink(Protocol):
    """The part of ``RouteSocket`` that is used here."""

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all objects of a kind."""

    def change(self, requests: Sequence[Request]) -> list[int]:
        """Ask for changes; return each one's error number."""


def link_mtus(netlink: Netlink) -> dict[int, int]:
    """Return the MTU of each interface by index."""
    found: dict[int, int] = {}
    for body in netlink.dump(RTM_GETLINK, bytes(LINK_MESSAGE_BYTES)):
        (index,) = NUMBER.unpack_from(body, LINK_INDEX_OFFSET)
        for kind, value in attributes(body, LINK_MESSAGE_BYTES):
            if kind == IFLA_MTU:
                found[index] = NUMBER.unpack(value)[0]
                break
    return found


FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


NUMBER = struct.Struct("=I")
