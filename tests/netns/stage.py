"""Three servers with tables made by hand: every bucket has the chain that a test wants.

The router sends everything to the servers that the test says, so that each packet's way is known.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from controlplane.domain.objects import TCP, UDP, ServerState, Service, table_kind
from lb.dataplane.load import bpf_syscall
from lb.demo.site.counters import Counters, growth
from netns import brigade
from netns.build import build_route
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from netns.topology import AnyNetwork
from tests.netns import talk
from tests.netns.agent_helpers import POOL, Fleet, cluster, table
from tests.netns.talk import Place

PORT, ECHO_PORT = 8000, 7000
ANY_PORT, ANY_ECHO_PORT = 8001, 7001
"""At VIPs whose services are for any port."""
VIP4, VIP6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
ANY4, ANY6 = IPv4Address("192.0.2.20"), IPv6Address("2001:db8::20")
PREFIX4, PREFIX6 = IPv4Network("192.0.2.128/25"), IPv6Network("2001:db8:1::/64")
IN_PREFIX4, IN_PREFIX6 = PREFIX4[77], PREFIX6[0x7777]
VIPS: tuple[AnyNetwork, ...] = (
    IPv4Network(VIP4), IPv6Network(VIP6), IPv4Network(ANY4), IPv6Network(ANY6), PREFIX4, PREFIX6,
)  # fmt: skip
EXACT = (IPv4Network(VIP4), IPv6Network(VIP6), PREFIX4, PREFIX6)
TCP_PLACES = {
    "v4": Place(VIP4, PORT),
    "v6": Place(VIP6, PORT),
    "v4-any-port": Place(ANY4, ANY_PORT),
    "v6-any-port": Place(ANY6, ANY_PORT),
    "v4-prefix": Place(IN_PREFIX4, PORT),
    "v6-prefix": Place(IN_PREFIX6, PORT),
}
UDP_PLACES = {
    name: place._replace(port=place.port - PORT + ECHO_PORT) for name, place in TCP_PLACES.items()
}
BOTH = ("v4", "v6")
SERVERS = (1, 2, 3)
START_SECONDS = 60.0


def services() -> tuple[Service, ...]:
    """Each VIP has a TCP and a UDP service, some of one port, some of any."""
    return tuple(
        Service(
            f"{name}-{number}",
            vip,
            protocol,
            port if vip in EXACT else None,
            POOL,
        )
        for name, protocol, port in (("tcp", TCP, PORT), ("udp", UDP, ECHO_PORT))
        for number, vip in enumerate(VIPS)
    )


class Stage:
    """The network, its agents and their services."""

    def __init__(self, network: Network, depth: int) -> None:
        self.network = network
        self.fleet = Fleet(network)
        self.depth = depth
        self.agents: dict[int, Process] = {}
        self.udp_services: dict[int, list[Process]] = {}
        self._generation = 0
        pins = {brigade.server_name(n): self.pins(n) for n in SERVERS}
        self._counters = Counters(pins)

    def pins(self, number: int) -> Path:
        """Where a server's data plane is pinned."""
        return self.host(number).bpffs / brigade.INTERFACE

    def host(self, number: int) -> Host:
        """A server."""
        return self.fleet.host(number)

    @property
    def client(self) -> Host:
        """Where traffic comes from."""
        return self.network[brigade.client_name(1)]

    @property
    def router(self) -> Host:
        """What is between them."""
        return self.network[brigade.ROUTER]

    def start(self) -> None:
        """Start services, then agents; everything goes to server 1 and stays there."""
        states = [ServerState.ACTIVE] * len(SERVERS)
        self.fleet.publish(cluster(1, states, services(), self.depth))
        self._publish((1,))
        for number in SERVERS:
            self._start_services(number)
        for number in SERVERS:
            self.agents[number] = self.fleet.up(number)
        for number in SERVERS:
            wait_until(partial(self._is_ready, number), f"server {number} is ready", START_SECONDS)
        self.enter_by(1)

    def _is_ready(self, number: int) -> bool:
        assert self.agents[number].poll() is None, self.agents[number].output()[-500:]
        return self.fleet.ready(number)

    def _start_services(self, number: int) -> None:
        host = self.host(number)
        # Services start before the VIPs are there, and a prefix's addresses never are.
        host.sysctl("net.ipv4.ip_nonlocal_bind", "1")
        host.sysctl("net.ipv6.ip_nonlocal_bind", "1")
        talk.serve_tcp(host, (PORT, ANY_PORT))
        for port in (ECHO_PORT, ANY_ECHO_PORT):
            vips = [place.vip for place in UDP_PLACES.values() if place.port == port]
            service = talk.serve_udp(host, port, vips)
            self.udp_services.setdefault(number, []).append(service)

    def rest(self) -> None:
        """Have everything enter by server 1 and belong to it; the agents run."""
        assert {number: agent.poll() for number, agent in self.agents.items()} == dict.fromkeys(
            SERVERS
        )
        self.enter_by(1)
        self.chain(1)

    def chain(self, *servers: int, used_by: Sequence[int] = SERVERS) -> None:
        """Give every bucket this chain, newest first, and wait until servers forward by it."""
        self._publish(servers)
        kind = table_kind(POOL)
        for number in used_by:
            wait_until(
                lambda number=number: (  # type: ignore[misc]
                    self.fleet.acknowledged(number).get(kind) == self._generation
                ),
                f"server {number} has table {self._generation}",
            )

    def move(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Move every bucket as the builder does: put the newcomer behind, then swap."""
        self.chain(*old, new[0])
        self.chain(*new)

    def _publish(self, servers: Sequence[int]) -> None:
        self._generation += 1
        slots = [*servers, *[0] * (self.depth - len(servers))]
        self.fleet.publish(table(self._generation, slots[: self.depth]))

    def restart_agent(self, number: int) -> None:
        """End an agent by force, start another, and wait until its programs are in place."""
        self.agents[number].kill()
        self.agents[number] = self.fleet.up(number)

        def attached() -> bool:
            status = self.fleet.status(number)
            return status["pid"] == self.agents[number].pid and bool(status["attached"])

        wait_until(attached, f"server {number} has a new agent", START_SECONDS)

    def programs(self, number: int) -> tuple[int, int]:
        """The ids of a server's pinned programs."""
        found = []
        for name in ("forwarder", "redirector"):
            descriptor = bpf_syscall.obj_get(self.pins(number) / name)
            found.append(bpf_syscall.prog_info(descriptor).prog_id)
            os.close(descriptor)
        return found[0], found[1]

    def enter_by(self, *servers: int) -> None:
        """Have the router send what is for the VIPs to these servers."""
        for vip in VIPS:
            build_route(brigade.vip_route(vip, servers), self.router)

    def counters(self) -> Mapping[str, Counter[str]]:
        """What all servers have counted so far."""
        return self._counters.read()

    def grown(self, before: Mapping[str, Counter[str]], number: int) -> Counter[str]:
        """By how much a server's counters have grown."""
        server = brigade.server_name(number)
        return growth(before[server], self.counters()[server])
