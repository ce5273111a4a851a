"""Counting the TCP connections on VIPs by sock_diag(7)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
ESTABLISHED = 1 << 1
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBBI48x")
SOURCE_OFFSET = HEADER.size + 8
"""idiag_src in struct inet_diag_msg: behind four bytes and two ports."""
ADDRESS_BYTES = 16
MAPPED = bytes(10) + b"\xff\xff"
BUFFER_BYTES = 1 << 17


def count_connections(vips: Iterable[IPv4Address]) -> int:
    """Return the number of established TCP connections whose local address is a VIP.

    Those from this server to itself (health checks) do not count. Asks the network namespace of the
    calling thread, for IPv4 sockets and for IPv6 sockets that speak IPv4.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    wanted = frozenset(vip.packed for vip in vips)
    if not wanted:
        return 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(2.0)
        return _count(diag, socket.AF_INET, wanted, b"") + _count(
            diag, socket.AF_INET6, wanted, MAPPED
        )


def _count(diag: socket.socket, family: int, wanted: frozenset[bytes], prefix: bytes) -> int:
    """Dump one family's sockets; an IPv4 address in them stands behind ``prefix``."""
    request = REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, ESTABLISHED)
    diag.send(
        HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
        + request
    )
    count = 0
    while True:
        data = diag.recv(BUFFER_BYTES)
        offset = 0
        while offset < len(data):
            length, kind, *_ = HEADER.unpack_from(data, offset)
            if kind == NLMSG_DONE:
                return count
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, offset + HEADER.size)[0]
                raise OSError(code, "sock_diag refused")
            start = offset + SOURCE_OFFSET
            source = data[start : start + len(prefix) + 4]
            remote = data[start + ADDRESS_BYTES : start + ADDRESS_BYTES + len(prefix) + 4]
            if source[:-4] == prefix and source[-4:] in wanted and source != remote:
                count += 1
            offset += (length + 3) & ~3
