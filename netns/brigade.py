"""The network that Bucket Brigade is for: clients, one ECMP router, servers, a controller.

```
client1 ... --- router --- server1 (DIP 10.0.1.2)
                  |  `---- server2 (DIP 10.0.2.2) ...
              controller (10.0.0.2)
```
Each server has a link and a small subnet to itself. Link ends of hosts are called `eth0`, those of
the router after the host at the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netns.topology import ROUTER_SYSCTLS, End, Hop, HostSpec, Link, Route, Topology

ROUTER = "router"
CONTROLLER = "controller"
INTERFACE = "eth0"
CLIENT_MTU = 1500
WRAP_ROOM = 48
"""Bytes that a server's link offers beyond a client's: the wrap at depth 4."""
ANYWHERE = IPv4Network("0.0.0.0/0")


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


def vip_route(vip: IPv4Address, servers: Sequence[int]) -> Route:
    """The router's ECMP route for a VIP over these servers."""
    hops = tuple(Hop(dip(number), server_name(number)) for number in servers)
    return Route(ROUTER, IPv4Network(vip), hops)


def brigade(
    servers: int,
    clients: int = 1,
    vips: Sequence[IPv4Address] = (),
    server_mtu: int = CLIENT_MTU + WRAP_ROOM,
) -> Topology:
    """Describe the network; `vips` get a fixed ECMP route over all servers from the start."""
    names = [client_name(n + 1) for n in range(clients)]
    names += [server_name(n + 1) for n in range(servers)]
    names.append(CONTROLLER)
    hosts = [HostSpec(ROUTER, dict(ROUTER_SYSCTLS)), *(HostSpec(name) for name in names)]
    links = [_link(CONTROLLER, controller_address(), CLIENT_MTU)]
    links += [_link(client_name(n), client_address(n), CLIENT_MTU) for n in range(1, clients + 1)]
    links += [_server_link(n, server_mtu) for n in range(1, servers + 1)]
    routes = [
        Route(link.b.host, ANYWHERE, (Hop(link.a.address.ip, INTERFACE),))
        for link in links
        if link.a.address is not None
    ]
    routes += [vip_route(vip, range(1, servers + 1)) for vip in vips]
    return Topology(tuple(hosts), tuple(links), tuple(routes))


def _link(name: str, address: IPv4Address, mtu: int) -> Link:
    return Link(
        End(ROUTER, name, IPv4Interface(f"{address - 1}/30")),
        End(name, INTERFACE, IPv4Interface(f"{address}/30"), originates=True),
        mtu=mtu,
        known_neighbours=True,
    )


def _server_link(number: int, mtu: int) -> Link:
    # Neighbours are resolved by ARP here, as they are in the field: agents have to manage.
    return Link(
        End(
            ROUTER,
            server_name(number),
            IPv4Interface(f"{router_address(number)}/30"),
            xdp_pass=True,
            follow_carrier=True,
        ),
        End(
            server_name(number),
            INTERFACE,
            IPv4Interface(f"{dip(number)}/30"),
            originates=True,
        ),
        mtu=mtu,
    )
