"""Connections that a table cuts off are counted before they break, and nothing else is.

Three servers with agents. Nobody but the test publishes tables, so nothing is protected.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from controlplane.documents.presence import key_id_of
from controlplane.domain.objects import TCP, UDP, ServerState, Service
from controlplane.observe.presence import Presence
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from tests.model.flow import Flow, bucket_of
from tests.model.frames import tcp_packet
from tests.netns import talk
from tests.netns.agent_helpers import BUCKETS, KEY, POOL, PORT, VIP, Fleet, cluster, table
from tests.netns.raw import send_packets
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

    @property
    def server(self) -> Host:
        return self.fleet.host(1)

    def start(self) -> None:
        vips = (IPv4Network(VIP), IPv6Network(VIP6))
        services = [Service(f"web{vip.version}", vip, TCP, PORT, POOL) for vip in vips]
        services += [
            Service("crashing", vips[0], TCP, OTHER_PORT, POOL),
            Service("echo", vips[0], UDP, UDP_PORT, POOL),
        ]
        self.fleet.publish(cluster(1, [ServerState.ACTIVE] * 3, services))
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
        wait_until(lambda: _asked(flow) == FIRST, "the UDP service answers")
        return flow

    def lead(self, chain: Sequence[int]) -> float:
        """Publish a table with this chain in every bucket; return when all servers have it."""
        self.generation += 1
        self.fleet.publish(table(self.generation, chain))
        if self.generation > 1:
            wait_until(self._taken, "the table is in use")
        return time.monotonic()

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
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name}{{")]
        assert values
        return sum(map(float, values))


@pytest.fixture
def site() -> Iterator[Site]:
    with Network(brigade.brigade(3, 1, (VIP, VIP6), dual_stack=True)) as network:
        network[brigade.ROUTER].run(["ip", "route", "add", "blackhole", f"{NOBODY}/32"])
        made = Site(network)
        made.start()
        yield made


def test_what_a_table_cuts_off_is_counted_before_it_speaks(site: Site) -> None:
    with ExitStack() as held:
        tcp = [held.enter_context(TcpClient(site.client, place)) for place in PLACES]
        udp = held.enter_context(site.udp_flow())
        assert {client.name() for client in tcp} == {udp.ask()} == {FIRST}
        site.lead([2, 1])
        site.await_dumps()
        assert site.strays() == {}, "a later hop keeps them"
        taken = site.lead([3, 2])
        wait_until(lambda: site.strays() == {"forced": 3}, "all three are strays", 10.0)
        assert time.monotonic() - taken < COUNTED_SECONDS
        assert site.strays(2) == site.strays(3) == {}
        assert site.metric("bucket_brigade_strays") == 3
        assert site.metric("bucket_brigade_strays_seen_total") == 3
        wait_until(lambda: site.fleet.status(1)["strays"], "they are in the status")
        assert (
            "3 connections that no table leads to (web: 3 forced)"
            in site.fleet.lbctl(1, "status").stdout
        )
        for client in tcp:
            with pytest.raises((ConnectionError, AssertionError)):
                client.name()
        assert udp.ask() == THIRD
        site.await_dumps()
        assert site.metric("bucket_brigade_strays_seen_total") == 3, "each of them once"
        site.lead([1, 3])
        wait_until(lambda: site.strays() == {}, "a table leads there again")


def test_a_hop_that_is_dropped_has_forgotten_its_connections(site: Site) -> None:
    with TcpClient(site.client, PLACES[0]) as client:
        assert client.name() == FIRST
        site.lead([2, 1])
        site.lead([2, 0])
        wait_until(lambda: site.strays() == {"forgotten": 1}, "it is a stray", 10.0)


def test_what_applications_and_strangers_do_makes_no_stray(site: Site) -> None:
    """Not by a table that leads here, and not by one that does not."""
    crashing = talk.serve_tcp(site.server, [OTHER_PORT])
    with ExitStack() as held:
        place = PLACES[0]
        waiting = TcpClient(site.client, place)
        assert waiting.name() == FIRST
        closed = [TcpClient(site.client, other) for other in PLACES]
        half_closed = held.enter_context(TcpClient(site.client, place))
        wait_until(lambda: _answers(site, OTHER_PORT), "the service that crashes")
        crashed = held.enter_context(TcpClient(site.client, Place(VIP, OTHER_PORT)))
        assert crashed.name() == FIRST
        with site.server.entered():
            own = held.enter_context(socket.create_connection(place.address, 3))
        for client in closed:
            client.close_server_first()  # TIME-WAIT at the server
        half_closed.sock.sendall(b"close 0\n")  # FIN-WAIT-2 there, until this client closes
        assert half_closed.sock.recv(1) == b""
        crashing.kill()
        refused(site.client, Place(VIP, CLOSED_PORT))
        syns = [tcp_packet(NOBODY, 40000 + n, VIP, PORT) for n in range(20)]
        send_packets(site.client, syns)
        wait_until(
            lambda: site.metric("bucket_brigade_pool_connections") >= len(syns),
            "the kernel waits for the end of twenty handshakes",
        )
        waiting.close()
        site.await_dumps()
        assert site.strays() == {}
        site.lead([2, 0])
        send_packets(site.client, syns)  # at server 2 now
        site.await_dumps()
        assert site.strays() == {}
        assert site.metric("bucket_brigade_strays_seen_total") == 0
        own.close()


def _asked(client: UdpClient) -> str:
    try:
        return client.ask()
    except ConnectionRefusedError:
        return "nobody"


def refused(client: Host, place: Place) -> None:
    """Connect to a port where nothing listens; the VIP's server answers itself."""
    with client.entered(), pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(place.address, 2).close()


def _answers(site: Site, port: int) -> bool:
    try:
        TcpClient(site.client, Place(VIP, port)).close()
    except OSError:
        return False
    return True


def test_presence_is_in_the_reports_of_the_agents(site: Site) -> None:
    """The bucket is the model's, the key is not in the report."""
    with ExitStack() as held:
        clients = [held.enter_context(TcpClient(site.client, place)) for place in PLACES]
        assert {client.name() for client in clients} == {FIRST}
        expected = set()
        for client, place in zip(clients, PLACES, strict=True):
            address, port = client.sock.getsockname()[:2]
            source = type(place.vip)(address)
            expected.add(bucket_of(Flow(TCP, source, port, place.vip, PORT).hash(KEY), BUCKETS))
        presence = Presence()

        def seen() -> set[int]:
            presence.observe(site.fleet.store.reports())
            found = presence.of(FIRST)
            if found is None or len(found.dumps) < 2:
                return set()
            both = [dump.pools[POOL].occupied for dump in found.dumps]
            return {int(n) for n in (both[0] & both[1]).nonzero()[0]}

        wait_until(lambda: seen() == expected, f"two dumps in a row with buckets {expected}")
        report = site.fleet.store.reports()[FIRST]
        assert KEY.hex() not in str(report)
        found = presence.of(FIRST)
        assert found is not None
        assert found.dumps[1].number == found.dumps[0].number + 1
        assert found.dumps[1].pools[POOL].key_id == key_id_of(KEY)
