"""A switch floods frames: only the server that a frame is for forwards it, by its MAC of today."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv4Network

import pytest

from controlplane.domain.objects import UDP, ServerState, Service, table_kind
from lb.dataplane.pinned import PinnedDataplane
from netns import brigade
from netns.brigade import INTERFACE, ROUTER, server_name
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from netns.topology import HOST_SYSCTLS, ROUTER_SYSCTLS, End, Hop, HostSpec, Link, Route, Topology
from tests.model.frames import ethernet, udp_packet
from tests.netns.agent_helpers import POOL, PORT, VIP, Fleet, cluster, table
from tests.netns.raw import mac, send_frames

SWITCH = "switch"
SERVERS = (1, 2, 3)
SENT = 10
ROUTER_ADDRESS = IPv4Interface("10.0.0.1/16")
SERVICE = Service("udp", IPv4Network(VIP), UDP, PORT, POOL)
START_SECONDS = 60.0


def one_switch() -> Topology:
    """A router and three servers in one subnet, on the ports of a switch."""
    mtu = brigade.CLIENT_MTU + brigade.ENCAPSULATION_BYTES
    addresses = {ROUTER: ROUTER_ADDRESS}
    addresses |= {server_name(n): IPv4Interface(f"{brigade.dip(n)}/16") for n in SERVERS}
    links = [
        Link(
            End(SWITCH, name, xdp_pass=name != ROUTER),
            End(name, INTERFACE, address, originates=True),
            mtu,
        )
        for name, address in addresses.items()
    ]
    hosts = [HostSpec(name, dict(HOST_SYSCTLS)) for name in (SWITCH, *addresses) if name != ROUTER]
    return Topology(
        (HostSpec(ROUTER, dict(ROUTER_SYSCTLS)), *hosts),
        tuple(links),
        (Route(ROUTER, IPv4Network(VIP), (Hop(brigade.dip(1), INTERFACE),)),),
    )


def flood(switch: Host) -> None:
    """Connect the ports; without learning, every frame goes out of all the others."""
    switch.run(["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])
    for name in (ROUTER, *map(server_name, SERVERS)):
        switch.run(["ip", "link", "set", "dev", name, "master", "br0"])
        switch.run(["bridge", "link", "set", "dev", name, "learning", "off", "flood", "on"])
    switch.run(["ip", "link", "set", "dev", "br0", "up"])


def datagram(words: str, number: int) -> bytes:
    """The payload of one: as long as an ordinary packet's."""
    return f"{words} {number}".encode().ljust(64)


class Flooded:
    """The servers with their agents, a socket of the service on each, and a sender."""

    def __init__(self, network: Network, sockets: ExitStack) -> None:
        self.network = network
        self.fleet = Fleet(network)
        self._services = {n: self._socket(sockets, n) for n in SERVERS}
        with self.router.entered():
            self._sender = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._generation = 0

    @property
    def router(self) -> Host:
        """Where datagrams come from."""
        return self.network[ROUTER]

    def _socket(self, sockets: ExitStack, number: int) -> socket.socket:
        host = self.fleet.host(number)
        host.sysctl("net.ipv4.ip_nonlocal_bind", "1")
        with host.entered():
            made = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.bind((str(VIP), PORT))
        made.setblocking(False)
        return made

    def start(self) -> None:
        """Start the agents; they know each other's MACs when this returns."""
        self.fleet.publish(cluster(1, [ServerState.ACTIVE] * len(SERVERS), (SERVICE,)))
        self.belong_to(1)
        for number in SERVERS:
            self.fleet.up(number)

        def started() -> bool:
            states = [self.fleet.status(number) for number in SERVERS]
            return all(map(self.fleet.ready, SERVERS)) and not any(
                state["neighbours_unresolved"] for state in states
            )

        wait_until(started, "all servers are ready and know each other's MACs", START_SECONDS)

    def belong_to(self, *chain: int) -> None:
        """Give every bucket this chain, newest first."""
        self._generation += 1
        self.fleet.publish(table(self._generation, (*chain, 0)[:2]))

    def await_table(self) -> None:
        """Wait until all have the table."""
        wait_until(
            lambda: all(
                self.fleet.acknowledged(number).get(table_kind(POOL)) == self._generation
                for number in SERVERS
            ),
            f"table {self._generation}",
        )

    def send(self, words: str) -> None:
        """Send datagrams to the VIP, each another one."""
        for number in range(SENT):
            self._sender.sendto(datagram(words, number), (str(VIP), PORT))

    def received(self) -> Counter[bytes]:
        """What has arrived at all servers since the last call."""
        found: Counter[bytes] = Counter()
        for service in self._services.values():
            while True:
                try:
                    found[service.recv(2048)] += 1
                except BlockingIOError:
                    break
        return found

    def deliver(self, words: str) -> Counter[bytes]:
        """Send, and return what arrived by the time that as many later datagrams had arrived."""
        found: Counter[bytes] = Counter()
        for part in (words, "later"):
            self.send(part)

            def all_there(part: str = part) -> bool:
                found.update(self.received())
                return sum(datagram.startswith(part.encode()) for datagram in found) == SENT

            wait_until(all_there, f"ten datagrams with {part!r}")
        return found

    def counted(self, number: int) -> int:
        """The packets that a server has counted for the service."""
        with PinnedDataplane(self.fleet.host(number).bpffs / INTERFACE) as plane:
            return sum(packets for packets, _ in plane.service_counters().values())

    def counters(self, number: int) -> Counter[str]:
        """A server's counters."""
        with PinnedDataplane(self.fleet.host(number).bpffs / INTERFACE) as plane:
            return Counter(plane.counters())


@pytest.fixture(scope="module")
def running() -> Iterator[Flooded]:
    with Network(one_switch()) as network, ExitStack() as sockets:
        flood(network[SWITCH])
        made = Flooded(network, sockets)
        made.start()
        yield made


@pytest.mark.parametrize("chain", [(1,), (2,), (3, 2)], ids=str)
def test_a_flooded_datagram_arrives_once_and_is_counted_once(
    running: Flooded, chain: tuple[int, ...]
) -> None:
    running.belong_to(*chain)
    running.await_table()
    before = {number: running.counted(number) for number in SERVERS}
    others = {number: running.counters(number)["pass_other_host"] for number in SERVERS}
    found = running.deliver(f"to {chain}")
    assert found == {
        datagram(part, number): 1 for part in (f"to {chain}", "later") for number in range(SENT)
    }
    counted = {number: running.counted(number) - before[number] for number in SERVERS}
    assert counted == {1: 2 * SENT, 2: 0, 3: 0}
    for number in (2, 3):
        assert running.counters(number)["pass_other_host"] - others[number] == 2 * SENT


def test_a_changed_mac_is_followed(running: Flooded) -> None:
    """From then on a frame for the old MAC is another host's."""
    running.belong_to(2)
    running.await_table()
    server = running.fleet.host(1)
    old, new = mac(server, INTERFACE), bytes.fromhex("02000000a001")
    set_mac(running, new)
    try:
        wait_until(lambda: known_mac(server) == new, "the agent has followed")
        running.router.run(["ip", "neigh", "flush", "dev", INTERFACE])
        assert set(running.deliver("new MAC").values()) == {1}
        before = running.counters(1)
        late = udp_packet(ROUTER_ADDRESS.ip, 40000, VIP, PORT, payload=datagram("late", 0))
        frame = ethernet(late, destination=old, source=mac(running.router, INTERFACE))
        send_frames(running.router, INTERFACE, [frame])
        assert datagram("late", 0) not in running.deliver("after it")
        grown = running.counters(1) - before
        assert (grown["pass_other_host"], grown["tx_forward"]) == (1, 2 * SENT)
    finally:
        set_mac(running, old)
    wait_until(lambda: known_mac(server) == old, "the agent has followed back")
    running.router.run(["ip", "neigh", "flush", "dev", INTERFACE])


def set_mac(running: Flooded, wanted: bytes) -> None:
    """Give server 1's interface another MAC."""
    words = ["ip", "link", "set", "dev", INTERFACE, "address", wanted.hex(":")]
    running.fleet.host(1).run(words)


def known_mac(server: Host) -> bytes:
    """The MAC that a server's programs have."""
    with PinnedDataplane(server.bpffs / INTERFACE) as plane:
        return int(plane._state.config["mac"]).to_bytes(8, "little")[2:]
