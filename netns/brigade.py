"""The network that Bucket Brigade is for: clients, one ECMP router, servers, a controller.

```
client1 ... --- router --- server1 (DIP 10.0.1.2)
                  |  `---- server2 (DIP 10.0.2.2) ...
              controller (10.0.0.2)
```
Each server has a link and a small subnet to itself. Link ends of hosts are called `eth0`, those of
the router after the host at the other end. With `dual_stack` everybody has an IPv6 address too;
DIPs are IPv4 all the same, since servers reach each other by IPv4 alone.
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
WRAP_ROOM = 48
"""Bytes that a server's link offers beyond a client's: the wrap at depth 4."""
ANYWHERE: tuple[AnyNetwork, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
SITE6 = IPv6Network("2001:db8:b::/48")
"""Where everybody's IPv6 addresses are from; a /64 for each link."""
CLIENTS6 = 0xC000
"""Clients' links are numbered from here."""


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
    """The IPv6 address of the server with this number, from 1: where the router sends VIPs."""
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
    server_mtu: int = CLIENT_MTU + WRAP_ROOM,
    *,
    dual_stack: bool = False,
) -> Topology:
    """Describe the network; `vips` get a fixed ECMP route over all servers from the start.

    A `server_mtu` of `CLIENT_MTU` is a network without jumbo frames.
    """
    names = [client_name(n + 1) for n in range(clients)]
    names += [server_name(n + 1) for n in range(servers)]
    names.append(CONTROLLER)
    router = DUAL_STACK_ROUTER_SYSCTLS if dual_stack else ROUTER_SYSCTLS
    usual = DUAL_STACK_SYSCTLS if dual_stack else HOST_SYSCTLS
    hosts = [HostSpec(ROUTER, dict(router)), *(HostSpec(name, dict(usual)) for name in names)]
    links = [_link(CONTROLLER, controller_address(), controller_address6())]
    links += [
        _link(client_name(n), client_address(n), client_address6(n)) for n in range(1, clients + 1)
    ]
    links += [_server_link(n, server_mtu) for n in range(1, servers + 1)]
    if not dual_stack:
        links = [_without_ipv6(link) for link in links]
    routes = [
        Route(link.b.host, anywhere, (Hop(address.ip, INTERFACE),))
        for link in links
        for anywhere, address in zip(ANYWHERE, link.a.addresses, strict=False)
    ]
    routes += [vip_route(vip, range(1, servers + 1)) for vip in vips]
    return Topology(tuple(hosts), tuple(links), tuple(routes))


def _without_ipv6(link: Link) -> Link:
    return replace(link, a=replace(link.a, address6=None), b=replace(link.b, address6=None))


def _link(name: str, address: IPv4Address, address6: IPv6Address) -> Link:
    return Link(
        End(
            ROUTER,
            name,
            IPv4Interface(f"{address - 1}/30"),
            address6=IPv6Interface(f"{address6 - 1}/64"),
        ),
        End(
            name,
            INTERFACE,
            IPv4Interface(f"{address}/30"),
            originates=True,
            address6=IPv6Interface(f"{address6}/64"),
        ),
        mtu=CLIENT_MTU,
        known_neighbours=True,
    )


def _server_link(number: int, mtu: int) -> Link:
    # Neighbours are resolved by ARP and NDP here, as they are in the field: agents have to manage.
    address6 = server_address6(number)
    return Link(
        End(
            ROUTER,
            server_name(number),
            IPv4Interface(f"{router_address(number)}/30"),
            xdp_pass=True,
            follow_carrier=True,
            address6=IPv6Interface(f"{address6 - 1}/64"),
        ),
        End(
            server_name(number),
            INTERFACE,
            IPv4Interface(f"{dip(number)}/30"),
            originates=True,
            address6=IPv6Interface(f"{address6}/64"),
        ),
        mtu=mtu,
    )
