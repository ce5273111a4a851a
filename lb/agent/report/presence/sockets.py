"""Reads this server's sockets by sock_diag(7), as columns of numbers: no object for each socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import TCP
from lb.agent.netlink.messages import ATTRIBUTE, HEADER
from lb.agent.netlink.route_socket import (
    ERROR,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkError,
)
from lb.flow_hashes import FlowColumns, Words

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK = 20, 18
INET_DIAG_REQ_BYTECODE = 1
REQUEST = struct.Struct("=BBBBI48x")
"""struct inet_diag_req_v2: family, protocol, extensions, padding, states, and any socket."""
TCP_REQUEST = struct.Struct("=4x48xI4x")
"""struct inet_diag_req: any family and socket, states."""
MESSAGE = np.dtype(
    [
        *(("length", "=u4"), ("kind", "=u2"), ("flags", "=u2"), ("sequence", "=u4"), ("of", "=u4")),
        *(("family", "u1"), ("state", "u1"), ("timer", "u1"), ("retransmits", "u1")),
        *(("local_port", "<u2"), ("remote_port", "<u2"), ("local", "<u8", 2), ("remote", "<u8", 2)),
        *(("interface", "=u4"), ("cookie", "=u8"), ("expires", "=u4"), ("receive_queue", "=u4")),
        *(("send_queue", "=u4"), ("user", "=u4"), ("inode", "=u4")),
    ]
)
"""struct nlmsghdr and struct inet_diag_msg; ports and addresses are in network order."""
BUFFER_BYTES = 1 << 20
LARGEST_BYTES = 1 << 16
"""The kernel sends a dump in pieces of at most 32 KiB."""
RUN = 256
"""Messages that are compared at once."""
TIMEOUT_SECONDS = 10.0
LOW = np.uint64(0xFFFFFFFF)
MAPPED_LOW = np.uint64(0xFFFF0000)
"""The third quarter of an IPv4 address in an IPv6 socket (RFC 4291, section 2.5.5.2)."""

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2 = 1, 2, 3, 4, 5
TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING, NEW_SYN_RECV = 6, 7, 8, 9, 10, 11, 12
"""include/net/tcp_states.h. ESTABLISHED is also the state of a connected UDP socket."""
PRESENT = sum(1 << s for s in range(ESTABLISHED, NEW_SYN_RECV + 1)) & ~(
    1 << TIME_WAIT | 1 << CLOSE | 1 << LISTEN
)
"""A TCP connection is every state but these three: requests (SYN-RECV) are connections, too."""
CONNECTED = 1 << ESTABLISHED
"""A connected UDP socket."""


class Sockets(NamedTuple):
    """Sockets of one protocol as columns. ``flows``: the remote address is the source.

    ``local_port``: in host order. ``owned``: an application has it. ``cookie``: the kernel's number
    for the socket, never used again.
    """

    flows: FlowColumns
    local_port: NDArray[np.uint16]
    state: NDArray[np.uint8]
    owned: NDArray[np.bool_]
    cookie: Words

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Sockets:
        """Return some of the sockets."""
        return Sockets(
            self.flows.chosen(which),
            self.local_port[which],
            self.state[which],
            self.owned[which],
            self.cookie[which],
        )


def read_sockets(protocol: int, bytecode: bytes) -> Iterator[Sockets]:
    """Yield the connections of this thread's network namespace, some thousands at a time.

    ``bytecode``: which the kernel sends (``kernel_filter``).

    Raises:
        OSError: the kernel has no inet_diag, refuses, or does not answer.

    """
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(TIMEOUT_SECONDS)
        for request in _requests(protocol, bytecode):
            diag.send(request)
            yield from _answer(diag, buffer)


def _answer(diag: socket.socket, buffer: memoryview) -> Iterator[Sockets]:
    """Yield what one request is answered with."""
    done = False
    while not done:
        filled, pieces = 0, []
        while not done and filled + LARGEST_BYTES <= BUFFER_BYTES:
            count = diag.recv_into(buffer[filled:])
            found, done = parse(buffer[filled : filled + count])
            pieces += found
            filled += count
        if pieces:
            yield columns(np.concatenate(pieces))


def _requests(protocol: int, bytecode: bytes) -> Iterator[bytes]:
    """Yield the requests that dump the connections of all families.

    For TCP it is one, in the older form, which knows no family: the kernel walks its whole hash
    table for each dump, and that takes longer than a few sockets do. UDP has only the newer form.
    """
    if protocol == TCP:
        yield _message(TCPDIAG_GETSOCK, TCP_REQUEST.pack(PRESENT), bytecode)
        return
    for family in (socket.AF_INET, socket.AF_INET6):
        body = REQUEST.pack(family, protocol, 0, 0, CONNECTED)
        yield _message(SOCK_DIAG_BY_FAMILY, body, bytecode)


def _message(kind: int, body: bytes, bytecode: bytes) -> bytes:
    if bytecode:
        body += ATTRIBUTE.pack(ATTRIBUTE.size + len(bytecode), INET_DIAG_REQ_BYTECODE) + bytecode
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body


def parse(data: memoryview) -> tuple[list[NDArray[np.void]], bool]:
    """Return the messages in one piece of a dump, and whether the dump ends with it.

    Messages of one length that follow each other become one array, without a copy.

    Raises:
        OSError: the kernel ended the dump with an error, or the piece is not whole.

    """
    found: list[NDArray[np.void]] = []
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            code = -ERROR.unpack_from(data, offset + HEADER.size)[0] if length > HEADER.size else 0
            if code or kind == NLMSG_ERROR:
                raise NetlinkError(code)
            return found, True
        step = (length + 3) & ~3
        if length < MESSAGE.itemsize or offset + step > len(data):
            raise OSError("a dump of sockets is cut off")
        count = min(RUN, (len(data) - offset) // step)
        run: NDArray[np.void] = np.ndarray(count, MESSAGE, data, offset, (step,))
        same = (run["length"] == length) & (run["kind"] == kind)
        alike = count if same.all() else int(same.argmin())
        found.append(run[:alike])
        offset += alike * step
    return found, False


def columns(found: NDArray[np.void]) -> Sockets:
    """Return messages as columns; an IPv4 address in an IPv6 socket is an IPv4 address."""
    local, remote = found["local"].astype(np.uint64), found["remote"].astype(np.uint64)
    is_ipv4 = found["family"] == socket.AF_INET
    mapped = ~is_ipv4 & (local[:, 0] == 0) & (local[:, 1] & LOW == MAPPED_LOW)
    for address in (local, remote):
        address[mapped, 0] = address[mapped, 1] >> np.uint64(32)
        address[is_ipv4, 0] &= LOW
        address[is_ipv4 | mapped, 1] = 0
    local_port, remote_port = found["local_port"], found["remote_port"]
    ports = remote_port.astype(np.uint64) | local_port.astype(np.uint64) << np.uint64(16)
    return Sockets(
        flows=FlowColumns(remote, local, ports, is_ipv4 | mapped),
        local_port=local_port.view(">u2").astype(np.uint16),
        state=found["state"].copy(),
        owned=found["inode"] != 0,
        cookie=found["cookie"].astype(np.uint64),
    )
