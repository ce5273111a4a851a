"""A network as data: hosts, links between them, routes. Nothing here changes the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from netns.errors import NetworkError

Address = IPv4Address | IPv6Address
AnyInterface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network

INTERFACE_NAME_MAX = 15
"""IFNAMSIZ without its terminating zero."""

HOST_SYSCTLS = {
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}
"""Sysctls of every host by default: IPv4 only, so that the kernel sends no multicast by itself."""

DUAL_STACK_SYSCTLS = {
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    # Addresses can be used at once, and no host sends router or neighbour messages by itself.
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.autoconf": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
    # As with IPv4, an address stays when its interface goes down.
    "net.ipv6.conf.default.keep_addr_on_down": "1",
}
"""A host with IPv4 and IPv6; it has link-local addresses, which neighbour discovery needs."""

ROUTER_SYSCTLS = {
    **HOST_SYSCTLS,
    "net.ipv4.ip_forward": "1",
    "net.ipv4.fib_multipath_hash_policy": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}
"""A router: it forwards, hashes ECMP by addresses and ports, and accepts asymmetric paths."""

DUAL_STACK_ROUTER_SYSCTLS = {
    **ROUTER_SYSCTLS,
    **DUAL_STACK_SYSCTLS,
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
    "net.ipv6.fib_multipath_hash_policy": "1",
}
"""The same for both families."""


@dataclass(frozen=True)
class HostSpec:
    """A host: a network namespace and a base directory of its own.

    ``sysctls`` are set before its links exist, so that ``conf.default`` reaches them.
    """

    name: str
    sysctls: dict[str, str] = field(default_factory=lambda: dict(HOST_SYSCTLS))


@dataclass(frozen=True)
class End:
    """One end of a link.

    ``originates``: applications send from here. Checksum and segmentation offloads are switched
    off, because a veth pair does not complete them, and neither does XDP_TX. ``xdp_pass`` attaches
    a program that passes everything; without a program, a veth end does not receive what its peer
    sends by XDP_TX. ``follow_carrier`` makes routes through this interface unusable while it has no
    carrier (``ignore_routes_with_linkdown``). ``address6`` needs a host with IPv6
    (`DUAL_STACK_SYSCTLS`).
    """

    host: str
    interface: str
    address: IPv4Interface | None = None
    originates: bool = False
    xdp_pass: bool = False
    follow_carrier: bool = False
    address6: IPv6Interface | None = None

    @property
    def addresses(self) -> tuple[AnyInterface, ...]:
        """Its addresses, IPv4 first."""
        return tuple(a for a in (self.address, self.address6) if a is not None)


@dataclass(frozen=True)
class Link:
    """A veth pair. ``mtu`` holds for both ends.

    ``known_neighbours`` gives each end the other's MAC address as a permanent neighbour. There are
    no ARP or NDP requests, so no test fails because of a late answer.
    """

    a: End
    b: End
    mtu: int = 1500
    known_neighbours: bool = False

    @property
    def ends(self) -> tuple[End, End]:
        """Both ends."""
        return (self.a, self.b)


@dataclass(frozen=True)
class Hop:
    """One next hop of a route."""

    gateway: Address
    interface: str
    weight: int = 1


@dataclass(frozen=True)
class Route:
    """A route on one host; with several hops it is an ECMP route."""

    host: str
    destination: AnyNetwork
    hops: tuple[Hop, ...]


@dataclass(frozen=True)
class Topology:
    """Hosts, links and routes; `check` verifies that they fit together."""

    hosts: tuple[HostSpec, ...]
    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()

    def ends_of(self, host: str) -> Iterator[End]:
        """Yield the link ends that this host has."""
        for link in self.links:
            for end in link.ends:
                if end.host == host:
                    yield end

    def end(self, host: str, interface: str) -> End:
        """Return one link end.

        Raises:
            NetworkError: the host has no such interface.

        """
        for end in self.ends_of(host):
            if end.interface == interface:
                return end
        raise NetworkError(f"host {host} has no interface {interface!r}")

    def check(self) -> None:
        """Check that names are unique, links end at hosts, and next hops are reachable.

        Raises:
            NetworkError: something does not fit; the message names it.

        """
        names = [host.name for host in self.hosts]
        _unique("host", names)
        for name in names:
            _unique(f"interface of {name}", [end.interface for end in self.ends_of(name)])
        for link in self.links:
            for end in link.ends:
                self._check_host(end.host)
                if not 0 < len(end.interface) <= INTERFACE_NAME_MAX:
                    raise NetworkError(
                        f"interface name {end.interface!r}: 1 to {INTERFACE_NAME_MAX} characters"
                    )
        for route in self.routes:
            self._check_route(route)

    def _check_host(self, name: str) -> None:
        if all(host.name != name for host in self.hosts):
            raise NetworkError(f"no host is called {name!r}")

    def _check_route(self, route: Route) -> None:
        self._check_host(route.host)
        if not route.hops:
            raise NetworkError(f"route to {route.destination} on {route.host} has no next hop")
        for hop in route.hops:
            addresses = self.end(route.host, hop.interface).addresses
            if not any(hop.gateway in address.network for address in addresses):
                raise NetworkError(
                    f"{route.host} cannot reach gateway {hop.gateway} through {hop.interface}"
                )


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise NetworkError(f"{what} {name!r} exists twice")
