"""A probe of an IPv6 VIP against a real TCP/IPv6 stack; what unwraps it stands in for a redirector.

What only a server's own programs can show (whom they refuse) is in ``test_controller_probe``.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from controlplane.observe.probe.packet import Probe, ProbeAnswer, answers
from controlplane.observe.probe.sockets import Prober, source_towards
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until

GUE_PORT = 6080
PORT = 7000
VIP = IPv6Address("2001:db8::10")
DIP, PROBER = brigade.dip(1), brigade.controller_address()
GUE_BYTES = 8
"""GUE and its private data, behind the UDP header."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(brigade.brigade(1, vips=(VIP,), dual_stack=True)) as made:
        made[brigade.server_name(1)].run(["ip", "address", "add", f"{VIP}/128", "dev", "lo"])
        yield made


@pytest.fixture
def server(network: Network) -> Iterator[Host]:
    """The server, which delivers what comes wrapped to it to its own stack."""
    host = network[brigade.server_name(1)]
    with host.entered():
        wrapped = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wrapped.bind((str(DIP), GUE_PORT))
        inner = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    stopping = threading.Event()

    def deliver() -> None:
        while not stopping.is_set():
            packet = wrapped.recv(2048)
            if packet[1:2] == bytes((socket.IPPROTO_IPV6,)):
                inner.sendto(packet[GUE_BYTES:], (str(VIP), 0))

    thread = threading.Thread(target=deliver)
    thread.start()
    yield host
    stopping.set()
    host.call(_poke)
    thread.join(5)
    assert not thread.is_alive()
    wrapped.close()
    inner.close()


def _poke() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"", (str(DIP), GUE_PORT))


@pytest.fixture
def controller(network: Network) -> Host:
    return network[brigade.CONTROLLER]


@pytest.fixture
def prober(controller: Host) -> Iterator[Prober]:
    made: Prober = controller.call(Prober, PROBER, GUE_PORT, random.Random(1))
    yield made
    made.close()


def answered(controller: Host, prober: Prober) -> None:
    """Probe once a second, as the controller does; fails unless one has its answer in time.

    A network that was made just now may still lose a packet: neighbours are looked for.
    """
    probes: list[Probe] = []
    heard: list[ProbeAnswer] = []
    begun = time.monotonic()

    def answer() -> bool:
        if time.monotonic() >= begun + len(probes):
            probe = controller.call(prober.send, DIP, VIP, PORT)
            assert probe
            assert (probe.prober, probe.source) == (PROBER, brigade.controller_address6())
            probes.append(probe)
        time.sleep(0.05)  # a look empties the buffer: let the answer come first
        heard.extend(prober.received())
        return any(answers(one, probe) for one in heard for probe in probes)

    wait_until(answer, "an answer", 3.0)


def test_a_vip_without_listener_proves_life_by_a_reset(
    server: Host, controller: Host, prober: Prober
) -> None:
    answered(controller, prober)


def test_a_listener_proves_life_by_a_syn_ack_and_gets_no_connection(
    server: Host, controller: Host, prober: Prober
) -> None:
    listener: socket.socket = server.call(
        socket.create_server, (str(VIP), PORT), family=socket.AF_INET6
    )
    with listener:
        answered(controller, prober)
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_what_else_reaches_the_controller_pushes_no_answer_out(
    server: Host, controller: Host, prober: Prober
) -> None:
    """Its socket gets all of this machine's TCP over IPv6: a store's traffic must not fill it."""
    own = str(brigade.controller_address6())
    with (
        controller.call(socket.create_server, (own, 0), family=socket.AF_INET6) as listener,
        controller.call(socket.create_connection, listener.getsockname()[:2]) as busy,
        listener.accept()[0] as accepted,
    ):
        busy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2000):
            busy.sendall(b"x")
            accepted.recv(1)
    answered(controller, prober)


def test_the_source_is_this_machines_address_towards_the_vip(
    network: Network, controller: Host
) -> None:
    assert controller.call(source_towards, VIP) == brigade.controller_address6()
    server = network[brigade.server_name(1)]
    assert server.call(source_towards, VIP) is None, "its own VIP is no way to others"
    with_no_route = IPv6Address("2001:db8:ffff::1")
    controller.run(["ip", "-6", "route", "add", "unreachable", f"{with_no_route}/128"])
    assert controller.call(source_towards, with_no_route) is None
