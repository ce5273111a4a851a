"""The usual network of Bucket Brigade: clients, one ECMP router, servers, a controller.

```
client1 ... --- router --- server1 (DIP 10.0.1.2)
                  |  `---- server2 (DIP 10.0.2.2) ...
              controller (10.0.0.2)
```
Each server has its own link and subnet. The interface of a host is called `eth0`; an interface of
the router has the name of the host at the other end. With `dual_stack`, each host also has an IPv6
address; DIPs stay IPv4, because servers reach each other over IPv4 only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)

from netns.topology import (
    DUAL_STACK_ROUTER_SYSCTLS,
    DUAL_STACK_SYSCTLS,
    HOST_SYSCTLS,
    ROUTER_SYSCTLS,
    Address,
    AnyNetwork,
    End,
    Hop,
    HostSpec,
    Link,
    Route,
    Topology,
)

IPV4 = 4
ROUTER = "router"
CONTROLLER = "controller"
INTERFACE = "eth0"
CLIENT_MTU = 1500
ENCAPSULATION_BYTES = 48
"""Encapsulation overhead at depth 4: server links take this much more than client links.

This package imports neither `lb` nor `controlplane`; a test compares the number with theirs.
"""
ANYWHERE: tuple[AnyNetwork, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
SITE6 = IPv6Network("2001:db8:b::/48")
"""All IPv6 addresses are from this prefix, with a /64 for each link."""
CLIENTS6 = 0xC000
"""First number of the links to clients."""


def server_name(number: int) -> str:
    """Name of the server with this number, from 1."""
    return f"server{number}"


def client_name(number: int) -> str:
    """Name of the client with this number, from 1."""
    return f"client{number}"


def dip(number: int) -> IPv4Address:
    """DIP of the server with this number, from 1."""
    return IPv4Address(f"10.0.{number}.2")


def router_address(number: int) -> IPv4Address:
    """The router's address on the link to the server with this number."""
    return IPv4Address(f"10.0.{number}.1")


def controller_address() -> IPv4Address:
    """The controller's address."""
    return IPv4Address("10.0.0.2")


def client_address(number: int) -> IPv4Address:
    """The address of the client with this number, from 1."""
    return IPv4Address(f"198.51.100.{4 * number + 2}")


def server_address6(number: int) -> IPv6Address:
    """The IPv6 address of the server with this number, from 1: the router's next hop for VIPs."""
    return SITE6[number << 64 | 2]


def client_address6(number: int) -> IPv6Address:
    """The IPv6 address of the client with this number, from 1."""
    return SITE6[CLIENTS6 + number << 64 | 2]


def controller_address6() -> IPv6Address:
    """The controller's IPv6 address."""
    return SITE6[2]


def vip_route(vip: Address | AnyNetwork, servers: Sequence[int]) -> Route:
    """The router's ECMP route for a VIP, or a prefix of VIPs, over these servers."""
    network: AnyNetwork = ip_network(vip)
    via: Callable[[int], Address] = dip if network.version == IPV4 else server_address6
    return Route(ROUTER, network, tuple(Hop(via(n), server_name(n)) for n in servers))


def brigade(
    servers: int,
    clients: int = 1,
    vips: Sequence[Address | AnyNetwork] = (),
    server_mtu: int = CLIENT_MTU + ENCAPSULATION_BYTES,
    *,
    dual_stack: bool = False,
) -> Topology:
    """Describe the network; each of `vips` has a fixed ECMP route over all servers.

    With a `server_mtu` of `CLIENT_MTU`, the links have no space for the encapsulation.
    """
    links = [
        _link(client_name(n), client_address(n), client_address6(n)) for n in range(1, clients + 1)
    ]
    links += [
        _link(server_name(n), dip(n), server_address6(n), server_mtu) for n in range(1, servers + 1)
    ]
    links.append(_link(CONTROLLER, controller_address(), controller_address6()))
    if not dual_stack:
        links = [_without_ipv6(link) for link in links]
    router = DUAL_STACK_ROUTER_SYSCTLS if dual_stack else ROUTER_SYSCTLS
    others = DUAL_STACK_SYSCTLS if dual_stack else HOST_SYSCTLS
    hosts = [HostSpec(ROUTER, dict(router))]
    hosts += [HostSpec(link.b.host, dict(others)) for link in links]
    routes = [
        Route(link.b.host, anywhere, (Hop(address.ip, INTERFACE),))
        for link in links
        for anywhere, address in zip(ANYWHERE, link.a.addresses, strict=False)
    ]
    routes += [vip_route(vip, range(1, servers + 1)) for vip in vips]
    return Topology(tuple(hosts), tuple(links), tuple(routes))


def _without_ipv6(link: Link) -> Link:
    return replace(link, a=replace(link.a, address6=None), b=replace(link.b, address6=None))


def _link(
    name: str, address: IPv4Address, address6: IPv6Address, server_mtu: int | None = None
) -> Link:
    """Describe a host's link to the router, which has the address before that of the host.

    Between router and servers, neighbours are resolved by ARP and NDP, as in a real network: agents
    must handle that.
    """
    server = server_mtu is not None
    router = End(
        ROUTER,
        name,
        IPv4Interface(f"{address - 1}/30"),
        xdp_pass=server,
        follow_carrier=server,
        address6=IPv6Interface(f"{address6 - 1}/64"),
    )
    host = End(
        name,
        INTERFACE,
        IPv4Interface(f"{address}/30"),
        originates=True,
        address6=IPv6Interface(f"{address6}/64"),
    )
    return Link(router, host, server_mtu or CLIENT_MTU, known_neighbours=not server)
