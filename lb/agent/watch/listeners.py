"""Whether each service has a listening socket in this network namespace, by sock_diag(7).

The redirector asks the kernel for a connection's socket. A service whose sockets live elsewhere, as
in a container behind NAT, has none here: as soon as a chain has a second hop, each new connection
is passed on to it, and reset there. A UDP service whose process ended leaves no other trace: it has
no check.
"""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from controlplane.domain.objects import TCP, UDP, Service, ServiceHealth, Vip, vip_text
from lb.agent.netlink.links import LOOPBACK_INDEX
from lb.agent.netlink.messages import HEADER, attributes, messages
from lb.agent.netlink.route_socket import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkError,
    error_in,
)
from lb.agent.watch.addresses import shortened
from lb.agent.watch.registry import Drift, Thing

LISTENERS = "listeners"
PATIENCE_SECONDS = 1.0
"""A service that is restarted has none for a moment."""
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
LISTENING = {TCP: 1 << 10, UDP: 1 << 7}
"""The state of a listening TCP socket, and of a UDP socket that is not connected."""
REQUEST = struct.Struct("=BBBBI48x")
"""struct inet_diag_req_v2: family, protocol, extensions, padding, states, and any socket."""
SOCKET = struct.Struct("!4xH2x16s16xI")
"""The begin of struct inet_diag_msg: local port, local address. The interface is the host's."""
SOCKET_BYTES = 72
INET_DIAG_SKV6ONLY = 11
ANY = {4: bytes(4), 16: bytes(16)}
"""The wildcard address, by length."""
MAPPED = bytes(10) + b"\xff\xff"
BUFFER_BYTES = 1 << 17


@dataclass(frozen=True)
class Listener:
    """A listening socket: its address of 4 or 16 bytes; ``both``: of IPv4 connections, too."""

    address: bytes
    port: int
    both: bool = False
    protocol: int = TCP

    def serves(self, vip: Vip) -> bool:
        """Whether connections to its port of a VIP reach it."""
        if self.address == ANY[len(self.address)]:
            return self.both or len(self.address) * 8 == vip.max_prefixlen
        if len(self.address) * 8 != vip.max_prefixlen:
            return False
        shift = vip.max_prefixlen - vip.prefixlen
        return int.from_bytes(self.address) >> shift == int(vip.network_address) >> shift


def read_listeners(protocols: Iterable[int]) -> frozenset[Listener]:
    """Return the listeners of this thread's network namespace that clients can reach.

    A UDP socket listens if it is bound and not connected. ``protocols``: TCP, UDP.

    Raises:
        OSError: the kernel has no inet_diag, or refuses.

    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(1.0)
        families = (socket.AF_INET, socket.AF_INET6)
        return frozenset(
            one
            for protocol in protocols
            for family in families
            for one in _dump(diag, family, protocol)
        )


def _dump(diag: socket.socket, family: int, protocol: int) -> Iterator[Listener]:
    request = REQUEST.pack(family, protocol, 0, 0, LISTENING[protocol])
    length, flags = HEADER.size + len(request), NLM_F_REQUEST | NLM_F_DUMP
    diag.send(HEADER.pack(length, SOCK_DIAG_BY_FAMILY, flags, 1, 0) + request)
    while True:
        for message in messages(diag.recv(BUFFER_BYTES)):
            if message.kind == NLMSG_DONE:
                return
            if message.kind == NLMSG_ERROR:
                raise NetlinkError(error_in(message))
            found = parse(family, message.body)
            if found is not None:
                yield replace(found, protocol=protocol)


def parse(family: int, body: bytes) -> Listener | None:
    """Return a listener, ``None`` for one that is bound to ``lo``: only this server reaches it."""
    port, raw, interface = SOCKET.unpack_from(body)
    if interface == socket.htonl(LOOPBACK_INDEX):
        return None
    if family == socket.AF_INET:
        return Listener(raw[:4], port)
    if raw.startswith(MAPPED):
        return Listener(raw[len(MAPPED) :], port)
    only6 = dict(attributes(body, SOCKET_BYTES)).get(INET_DIAG_SKV6ONLY, b"\0")
    return Listener(raw, port, both=only6[:1] == b"\0")


class WatchedListeners:
    """Compares services with listeners. ``services`` and ``checks`` return those of now.

    ``has_buckets``: whether this server is in chains of a pool. UDP services are looked for only in
    such pools: the settings' ``pools`` of a server are not in the documents.
    """

    def __init__(
        self,
        services: Callable[[], Iterable[Service]],
        checks: Callable[[], Mapping[str, ServiceHealth]],
        read: Callable[[Iterable[int]], Iterable[Listener]] = read_listeners,
        has_buckets: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._services = services
        self._has_buckets = has_buckets
        self._checks = checks
        self._read = read

    def things(self) -> Iterator[Thing]:
        """Yield what is watched."""
        yield Thing(LISTENERS, self._look, essential=False, patience_seconds=PATIENCE_SECONDS)

    def _look(self) -> Drift | None:
        wanted = [s for s in self._services() if self._is_wanted(s)]
        if not wanted:
            return None
        on_port: defaultdict[tuple[int, int | None], list[Listener]] = defaultdict(list)
        for listener in self._read(sorted({service.protocol for service in wanted})):
            on_port[listener.protocol, listener.port].append(listener)
        missing = [
            service
            for service in wanted
            if not any(one.serves(service.vip) for one in on_port[service.protocol, service.port])
        ]
        if not missing:
            return None
        names = shortened([_named(service) for service in missing])
        return Drift(
            f"no socket of this network namespace listens for {names}", self._remedy(missing)
        )

    def _is_wanted(self, service: Service) -> bool:
        """Whether a service should listen here. Not each server serves every pool."""
        if service.protocol not in LISTENING or service.port is None:
            return False
        return service.protocol == TCP or self._has_buckets(service.pool)

    def _remedy(self, missing: Iterable[Service]) -> str:
        """Return what to do: a service that answers its check runs, but elsewhere."""
        checks = self._checks()
        elsewhere = [s.name for s in missing if s.name in checks and checks[s.name].healthy]
        if not elsewhere:
            return "start it here; not in a container with a network of its own, nor behind NAT"
        return (
            f"{shortened(elsewhere)} answers its check from elsewhere: give its container the "
            "host's network (not NAT), or new connections are reset once a bucket moves"
        )


def _named(service: Service) -> str:
    """Return a service's name and where it should listen."""
    udp = "UDP " if service.protocol == UDP else ""
    return f"{service.name} ({vip_text(service.vip)} {udp}port {service.port})"
