"""Which flows have a socket here, asked for one by one (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import TCP
from lb.agent.netlink.messages import HEADER
from lb.agent.netlink.route_socket import NLM_F_REQUEST, NLMSG_ERROR
from lb.agent.report.presence.sockets import (
    LISTEN,
    NETLINK_SOCK_DIAG,
    SOCK_DIAG_BY_FAMILY,
    TIMEOUT_SECONDS,
)
from lb.flow_hashes import FlowColumns

REQUEST = struct.Struct("=BBBxI")
"""struct inet_diag_req_v2 up to the socket's id: family, protocol, extensions, states."""
ID = struct.Struct("=2s2s16s16sIQ")
"""struct inet_diag_sockid: ports, addresses, interface, cookie; local before remote."""
NO_COOKIE = (1 << 64) - 1
ALL_STATES = 0xFFFFFFFF
BATCH = 64
ANSWER_BYTES = 1 << 15
STATE_AT = HEADER.size + 1


def have_sockets(flows: FlowColumns) -> NDArray[np.bool_]:
    """Return which TCP flows have a socket here, in any state but LISTEN.

    Raises:
        OSError: the kernel has no inet_diag, or does not answer.

    """
    found = np.zeros(len(flows.ports), np.bool_)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(TIMEOUT_SECONDS)
        for start in range(0, len(found), BATCH):
            asked = range(start, min(start + BATCH, len(found)))
            diag.send(b"".join(_request(flows, at) for at in asked))
            for at, has in zip(asked, _answers(diag, asked), strict=True):
                found[at] = has
    return found


def _request(flows: FlowColumns, at: int) -> bytes:
    is_ipv4 = bool(flows.is_ipv4[at])
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    ports = int(flows.ports[at]).to_bytes(4, "little")
    local, remote = (
        np.asarray(address[at]).astype("<u8").tobytes()
        for address in (flows.destination, flows.source)
    )
    body = REQUEST.pack(family, TCP, 0, ALL_STATES)
    body += ID.pack(ports[2:], ports[:2], local, remote, 0, NO_COOKIE)
    return HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, at, 0) + body


def _answers(diag: socket.socket, asked: Sequence[int]) -> Iterator[bool]:
    """Yield for each request whether there is such a socket: each has one answer, in order."""
    for number in asked:
        data = diag.recv(ANSWER_BYTES)
        _, kind, _, sequence, _ = HEADER.unpack_from(data)
        if sequence != number:
            raise OSError("sock_diag answered another request")
        yield kind != NLMSG_ERROR and data[STATE_AT] != LISTEN
