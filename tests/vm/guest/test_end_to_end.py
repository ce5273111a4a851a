"""A client, a router and two servers with `lbctl up`: connections over one hop, two, and a move.

Server 1 is on a veth link. Server 2 is too, unless LB_VM_NICS names two network cards that a cable
joins: then it has one of them, and the router the other.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from controlplane.domain.objects import TCP, UDP, ServerState, Service
from lb.dataplane.pinned import PinnedDataplane
from netns.brigade import INTERFACE, ROUTER, brigade, client_name, server_name, vip_route
from netns.build import build_route
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import LBCTL, POOL, PORT, Fleet, cluster, table
from tests.vm.guest.cable import plug, without_link

VIPS = (IPv4Address("192.0.2.10"), IPv6Address("2001:db8:1::10"))
BOTH = [ServerState.ACTIVE, ServerState.ACTIVE]
PATIENCE_SECONDS = 1200.0
"""Emulated, an agent takes half a minute to be ready, and far more on a busy host."""
BODY = bytes(range(256)) * 800
ON_A_CARD = 2


class Servers:
    """TCP and UDP on every VIP of every server; each says its own name, then echoes."""

    def __init__(self, fleet: Fleet) -> None:
        self._sockets: list[socket.socket] = []
        for number in (1, 2):
            for vip in VIPS:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    made = fleet.host(number).call(partial(_bound, vip, kind))
                    self._sockets.append(made)
                    serve = _serve_tcp if kind == socket.SOCK_STREAM else _serve_udp
                    name = server_name(number).encode()
                    threading.Thread(target=serve, args=(made, name), daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _family(vip: IPv4Address | IPv6Address) -> socket.AddressFamily:
    return socket.AF_INET if vip.version == 4 else socket.AF_INET6


def _bound(vip: IPv4Address | IPv6Address, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(_family(vip), kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((str(vip), PORT))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def _serve_tcp(listener: socket.socket, name: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed: the test is over
            return
        threading.Thread(target=_talk, args=(connection, name), daemon=True).start()


def _talk(connection: socket.socket, name: bytes) -> None:
    with connection:
        connection.sendall(name + BODY)
        while heard := connection.recv(65536):
            connection.sendall(heard)


def _serve_udp(bound: socket.socket, name: bytes) -> None:
    while True:
        try:
            heard, client = bound.recvfrom(2048)
        except OSError:
            return
        bound.sendto(name + heard, client)


class Call:
    """A client's connection to a VIP."""

    def __init__(self, fleet: Fleet, vip: IPv4Address | IPv6Address) -> None:
        client = fleet.network[client_name(1)]
        self._socket = client.call(lambda: socket.create_connection((str(vip), PORT), 20))
        heard = self._read(len(server_name(1)) + len(BODY))
        self.server = heard[: -len(BODY)].decode()
        assert heard.endswith(BODY)

    def _read(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            part = self._socket.recv(65536)
            assert part, f"closed after {len(parts)} of {length} bytes"
            parts += part
        return bytes(parts)

    def echoes(self, text: bytes) -> bool:
        sender = threading.Thread(target=self._socket.sendall, args=(text,), daemon=True)
        sender.start()
        heard = self._read(len(text))
        sender.join()
        return heard == text

    def close(self) -> None:
        self._socket.close()


def ask_udp(fleet: Fleet, vip: IPv4Address | IPv6Address) -> str:
    """Send a datagram to a VIP, and return the name of the server that answers."""

    def ask() -> bytes:
        with socket.socket(_family(vip), socket.SOCK_DGRAM) as made:
            made.settimeout(20)
            made.connect((str(vip), PORT))
            made.send(b"!")
            return made.recv(2048)

    heard = fleet.network[client_name(1)].call(ask)
    assert heard.endswith(b"!")
    return heard[:-1].decode()


def services() -> list[Service]:
    return [
        Service(f"v{vip.version}-{protocol}", ip_network(vip), protocol, PORT, POOL)
        for vip in VIPS
        for protocol in (TCP, UDP)
    ]


def route_through(fleet: Fleet, number: int) -> None:
    """Have the router send all VIPs to one server."""
    for vip in VIPS:
        build_route(vip_route(vip, [number]), fleet.network[ROUTER])


def verdicts(fleet: Fleet, number: int) -> Mapping[str, int]:
    with PinnedDataplane(fleet.host(number).bpffs / INTERFACE) as pinned:
        return pinned.counters()


def publish(fleet: Fleet, generation: int, chain: list[int]) -> None:
    fleet.publish(table(generation, chain))

    def acknowledged(number: int) -> bool:
        return fleet.acknowledged(number).get(f"table/{POOL}") == generation

    for number in (1, 2):
        wait_until(
            partial(acknowledged, number),
            f"server {number} has table {generation}",
            PATIENCE_SECONDS,
        )


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    cards = os.environ.get("LB_VM_NICS", "").split()
    topology = brigade(2, 1, dual_stack=True)
    with Network(without_link(topology, ON_A_CARD) if cards else topology) as network:
        if cards:
            plug(network, topology, ON_A_CARD, cards)
        made = Fleet(network)
        made.publish(cluster(1, BOTH, services()))
        made.publish(table(1, [2, 0]))
        agents = [made.up(number) for number in (1, 2)]
        try:
            wait_until(
                lambda: (
                    all(made.ready(n) for n in (1, 2)) or any(a.poll() is not None for a in agents)
                ),
                "both servers are ready",
                PATIENCE_SECONDS,
            )
        finally:
            print(*(made.log(number) for number in (1, 2)), sep="\n")
        assert [agent.poll() for agent in agents] == [None, None], "an agent ended"
        servers = Servers(made)
        yield made
        servers.close()


@pytest.fixture(params=VIPS, ids=["IPv4", "IPv6"])
def vip(request: pytest.FixtureRequest) -> IPv4Address | IPv6Address:
    found: IPv4Address | IPv6Address = request.param
    return found


def test_both_programs_are_attached_in_native_mode(fleet: Fleet) -> None:
    for number in (1, 2):
        shown = fleet.host(number).run(["ip", "-d", "link", "show", INTERFACE]).stdout
        assert "prog/xdp" in shown
        assert "xdpgeneric" not in shown


_GENERATIONS = iter(range(2, 100))


def test_connections_go_where_the_table_says_and_stay_through_a_move(
    fleet: Fleet, vip: IPv4Address | IPv6Address
) -> None:
    publish(fleet, next(_GENERATIONS), [2, 0])
    route_through(fleet, 1)
    before = {number: verdicts(fleet, number) for number in (1, 2)}
    held = Call(fleet, vip)
    assert (held.server, ask_udp(fleet, vip)) == ("server2", "server2")
    assert held.echoes(BODY)
    # server 1 wrapped by XDP_TX on its veth, server 2 took it out of the wrap
    assert verdicts(fleet, 1)["tx_forward"] - before[1]["tx_forward"] > 100
    assert verdicts(fleet, 2)["accept_last_hop"] - before[2]["accept_last_hop"] > 100

    publish(fleet, next(_GENERATIONS), [1, 2])
    assert Call(fleet, vip).server == "server1"
    assert held.echoes(BODY), "server 1 passes on what it does not know"
    route_through(fleet, 2)
    newcomer = Call(fleet, vip)
    assert newcomer.server == "server1"
    # server 2 wrapped by XDP_TX on its own link; what server 1 does not know comes back
    assert held.echoes(BODY)
    assert newcomer.echoes(BODY)
    now = {number: verdicts(fleet, number) for number in (1, 2)}
    assert now[2]["tx_forward_chain"] - before[2].get("tx_forward_chain", 0) > 100
    assert now[1]["pass_on"] - before[1]["pass_on"] > 100
    assert ask_udp(fleet, vip) == "server1"


def test_down_leaves_no_program_behind(fleet: Fleet) -> None:
    """Last: it ends the servers."""
    for number in (1, 2):
        host = fleet.host(number)
        (agent,) = [process for process in host.processes if process.name.startswith("agent")]
        agent.signal(signal.SIGTERM)
        assert agent.wait(PATIENCE_SECONDS) == 0
        words = [*LBCTL, "down", "--force", "--config", str(host.base / "agent.toml")]
        host.run(words, PATIENCE_SECONDS)
        assert "prog/xdp" not in host.run(["ip", "-d", "link", "show", INTERFACE]).stdout
        assert "clsact" not in host.run(["tc", "qdisc", "show", "dev", INTERFACE]).stdout
