"""Three servers with agents whose tables only the test publishes: nothing is protected."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from controlplane.domain.objects import TCP, UDP, ServerState, Service
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from tests.netns import talk
from tests.netns.agent_helpers import POOL, PORT, VIP, Fleet, cluster, table
from tests.netns.talk import Place, TcpClient, UdpClient

VIP6 = IPv6Address("2001:db8::10")
PLACES = (Place(VIP, PORT), Place(VIP6, PORT))
OTHER_PORT, UDP_PORT, CLOSED_PORT = 8001, 5300, 8002
NOBODY = IPv4Address("203.0.113.9")
"""A client that never answers: the router drops what is for it."""
START_SECONDS = 60.0
COUNTED_SECONDS = 2.0
DUMPS = 4
FIRST, SECOND, THIRD = (brigade.server_name(number) for number in (1, 2, 3))


class Site:
    """The fleet, and what server 1 knows of its connections."""

    def __init__(self, network: Network) -> None:
        self.fleet = Fleet(network)
        self.client = network[brigade.client_name(1)]
        self.generation = 0
        vips = (IPv4Network(VIP), IPv6Network(VIP6))
        self.services = [
            *(Service(f"web{vip.version}", vip, TCP, PORT, POOL) for vip in vips),
            Service("crashing", vips[0], TCP, OTHER_PORT, POOL),
            Service("echo", vips[0], UDP, UDP_PORT, POOL),
        ]

    @property
    def server(self) -> Host:
        return self.fleet.host(1)

    def start(self) -> None:
        self.fleet.publish(cluster(1, [ServerState.ACTIVE] * 3, self.services))
        self.lead([1, 0])
        for number in (1, 2, 3):
            talk.serve_tcp(self.fleet.host(number), [PORT])
            self.fleet.up(number)
        wait_until(lambda: all(map(self.fleet.ready, (1, 2, 3))), "ready", START_SECONDS)

    def udp_flow(self) -> UdpClient:
        """Open the one flow of the UDP service. It runs from now on: it binds to the VIP."""
        for number in (1, 2, 3):
            talk.serve_udp(self.fleet.host(number), UDP_PORT, [VIP])
        flow = UdpClient(self.client, Place(VIP, UDP_PORT))
        wait_until(lambda: asked(flow) == FIRST, "the UDP service answers")
        return flow

    def lead(self, chain: Sequence[int]) -> float:
        """Publish a table with this chain in every bucket; return when all servers have it."""
        self.generation += 1
        self.fleet.publish(table(self.generation, chain))
        if self.generation > 1:
            wait_until(self._taken, "the table is in use")
        return time.monotonic()

    def die(self, chain: Sequence[int]) -> None:
        """Declare server 1 dead, then publish a table with this chain in every bucket."""
        states = [ServerState.DOWN, ServerState.ACTIVE, ServerState.ACTIVE]
        self.fleet.publish(cluster(2, states, self.services))
        self.generation += 1
        self.fleet.publish(table(self.generation, chain, cluster_generation=2))
        wait_until(self._taken, "the table is in use")

    def _taken(self) -> bool:
        return all(
            self.fleet.acknowledged(number).get(f"table/{POOL}") == self.generation
            for number in (1, 2, 3)
        )

    def strays(self, number: int = 1) -> dict[str, int]:
        """What a server's newest report has, by cause."""
        report = self.fleet.store.reports()[brigade.server_name(number)]
        assert all(one.pool == POOL for one in report.strays)
        return {one.cause: one.count for one in report.strays}

    def await_dumps(self) -> None:
        """Wait until server 1 has looked at its sockets some more times."""
        before = self.fleet.status(1)["dumps"]
        wait_until(lambda: self.fleet.status(1)["dumps"] >= before + DUMPS, "dumps", 30.0)

    def metric(self, name: str) -> float:
        """The sum of a metric of server 1 over its labels."""
        words = ["curl", "-s", f"http://{brigade.dip(1)}:9109/metrics"]
        lines = self.server.run(words).stdout.splitlines()
        values = [
            line.rpartition(" ")[2] for line in lines if line.startswith((f"{name}{{", f"{name} "))
        ]
        assert values
        return sum(map(float, values))


@contextmanager
def steered_site() -> Iterator[Site]:
    """The site, as long as the block runs."""
    with Network(brigade.brigade(3, 1, (VIP, VIP6), dual_stack=True)) as network:
        network[brigade.ROUTER].run(["ip", "route", "add", "blackhole", f"{NOBODY}/32"])
        made = Site(network)
        made.start()
        yield made


def asked(client: UdpClient) -> str:
    try:
        return client.ask()
    except ConnectionRefusedError:
        return "nobody"


def refused(client: Host, place: Place) -> None:
    """Connect to a port where nothing listens; the VIP's server answers itself."""
    with client.entered(), pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(place.address, 2).close()


def answers(site: Site, port: int) -> bool:
    try:
        TcpClient(site.client, Place(VIP, port)).close()
    except OSError:
        return False
    return True
