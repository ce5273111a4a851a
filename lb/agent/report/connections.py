"""Counting the TCP connections on VIPs by sock_diag(7)."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from collections.abc import Iterable

from controlplane.domain.objects import Vip

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
ESTABLISHED = 1 << 1
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBBI48x")
SOURCE_OFFSET = HEADER.size + 8
"""idiag_src in struct inet_diag_msg: behind four bytes and two ports; idiag_dst follows."""
ADDRESS_BYTES = 16
ADDRESS_BITS = {4: 32, 6: 128}
MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address stands behind in an IPv6 socket (RFC 4291, section 2.5.5.2)."""
BUFFER_BYTES = 1 << 17


class VipSet:
    """Answers whether a packed address is of a VIP, in a look-up for each prefix length in use."""

    def __init__(self, vips: Iterable[Vip]) -> None:
        prefixes: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for vip in vips:
            shift = vip.max_prefixlen - vip.prefixlen
            prefixes[vip.version, shift].add(int(vip.network_address) >> shift)
        self._prefixes = dict(prefixes)

    def has_version(self, version: int) -> bool:
        """Whether there is a VIP of this version of IP."""
        return any(known == version for known, _ in self._prefixes)

    def __contains__(self, packed: bytes) -> bool:
        """Whether this address, of 4 or 16 bytes, is a VIP."""
        bits = 8 * len(packed)
        number = int.from_bytes(packed, "big")
        return any(
            ADDRESS_BITS[version] == bits and number >> shift in found
            for (version, shift), found in self._prefixes.items()
        )


def count_connections(vips: Iterable[Vip]) -> int:
    """Return the number of established TCP connections whose local address is a VIP.

    Those from this server to itself (health checks) do not count. Asks the network namespace of the
    calling thread, for IPv4 sockets and for IPv6 sockets, those that speak IPv4 among them.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    wanted = VipSet(vips)
    families = [socket.AF_INET] if wanted.has_version(4) else []
    if families or wanted.has_version(6):
        families.append(socket.AF_INET6)
    if not families:
        return 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(2.0)
        return sum(_count(diag, family, wanted) for family in families)


def _count(diag: socket.socket, family: int, wanted: VipSet) -> int:
    """Dump one family's sockets and count those that are wanted."""
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
            source = _address(family, data[start : start + ADDRESS_BYTES])
            remote = _address(family, data[start + ADDRESS_BYTES : start + 2 * ADDRESS_BYTES])
            count += source in wanted and source != remote
            offset += (length + 3) & ~3


def _address(family: int, raw: bytes) -> bytes:
    """Return an address of 4 or 16 bytes; a mapped one is an IPv4 address."""
    if family == socket.AF_INET:
        return raw[:4]
    return raw.removeprefix(MAPPED)
