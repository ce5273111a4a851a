"""Counts the open connections on VIPs by sock_diag(7): TCP connections and UDP flows.

A UDP flow is a connected socket of a UDP service that is not stateless: the redirector finds flows
by the same sockets. A server that answers with unconnected sockets keeps no flows to count.
"""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from collections.abc import Iterable

from controlplane.domain.objects import UDP, Service, Vip
from lb.agent.netlink.messages import HEADER, messages
from lb.agent.netlink.route_socket import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkError,
    error_in,
)

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
ESTABLISHED = 1 << 1
"""The state of a TCP connection, and of a connected UDP socket."""
REQUEST = struct.Struct("=BBBBI48x")
PORT = struct.Struct("!4xH")
SOURCE_OFFSET = 8
REMOTE_OFFSET = SOURCE_OFFSET + 16
END_OFFSET = REMOTE_OFFSET + 16
"""idiag_src and idiag_dst in struct inet_diag_msg, after four bytes and two ports."""
ADDRESS_BITS = {4: 32, 6: 128}
MAPPED = bytes(10) + b"\xff\xff"
"""The prefix of an IPv4 address in an IPv6 socket (RFC 4291, section 2.5.5.2)."""
BUFFER_BYTES = 1 << 17


class AddressMatcher:
    """Whether a packed address is in a VIP, by one look-up for each prefix length in use."""

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


class FlowServices:
    """Whether a UDP flow to an address and port belongs to its server: not where it is stateless.

    A packet's service is the one with the longest prefix; of these, one with a port comes first.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        found: defaultdict[tuple[int, int], dict[tuple[int, int | None], bool]] = defaultdict(dict)
        for service in services:
            if service.protocol == UDP:
                vip = service.vip
                shift = vip.max_prefixlen - vip.prefixlen
                key = int(vip.network_address) >> shift, service.port
                found[vip.version, shift][key] = not service.stateless
        self._services = sorted(found.items(), key=lambda item: item[0])  # longest prefixes first

    def __bool__(self) -> bool:
        """Whether there is a service whose flows belong to servers."""
        return any(any(keeps.values()) for _, keeps in self._services)

    def keeps(self, packed: bytes, port: int) -> bool:
        """Whether flows to this address, of 4 or 16 bytes, and port belong to their servers."""
        bits = 8 * len(packed)
        number = int.from_bytes(packed, "big")
        for (version, shift), services in self._services:
            for wanted in (port, None) if ADDRESS_BITS[version] == bits else ():
                kept = services.get((number >> shift, wanted))
                if kept is not None:
                    return kept
        return False


def count_connections(vips: Iterable[Vip], services: Iterable[Service] = ()) -> int:
    """Return the number of connections whose local address is a VIP.

    TCP connections that are established, and UDP flows of those ``services`` that are not
    stateless. Those from this server to itself (health checks) do not count. It looks at the
    network namespace of the calling thread, at IPv4 sockets and at IPv6 sockets, which may have
    IPv4 connections.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    wanted = AddressMatcher(vips)
    families = [socket.AF_INET] if wanted.has_version(4) else []
    if families or wanted.has_version(6):
        families.append(socket.AF_INET6)
    if not families:
        return 0
    flows = FlowServices(services)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(2.0)
        count = sum(_count(diag, family, socket.IPPROTO_TCP, wanted) for family in families)
        if flows:
            count += sum(
                _count(diag, family, socket.IPPROTO_UDP, wanted, flows) for family in families
            )
        return count


def _count(
    diag: socket.socket,
    family: int,
    protocol: int,
    wanted: AddressMatcher,
    flows: FlowServices | None = None,
) -> int:
    """Dump one family's sockets and count those that are wanted."""
    request = REQUEST.pack(family, protocol, 0, 0, ESTABLISHED)
    length, flags = HEADER.size + len(request), NLM_F_REQUEST | NLM_F_DUMP
    diag.send(HEADER.pack(length, SOCK_DIAG_BY_FAMILY, flags, 1, 0) + request)
    count = 0
    while True:
        for message in messages(diag.recv(BUFFER_BYTES)):
            if message.kind == NLMSG_DONE:
                return count
            if message.kind == NLMSG_ERROR:
                raise NetlinkError(error_in(message))
            source = _address(family, message.body[SOURCE_OFFSET:REMOTE_OFFSET])
            remote = _address(family, message.body[REMOTE_OFFSET:END_OFFSET])
            counts = source in wanted and source != remote
            if counts and flows is not None:
                (port,) = PORT.unpack_from(message.body)
                counts = flows.keeps(source, port)
            count += counts


def _address(family: int, raw: bytes) -> bytes:
    """Return an address of 4 or 16 bytes; a mapped one is an IPv4 address."""
    if family == socket.AF_INET:
        return raw[:4]
    return raw.removeprefix(MAPPED)
