"""The controller's probe against a real agent's redirector, through a real router."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controlplane.domain.objects import ServerState
from controlplane.observe.probe.packet import Probe, ProbeAnswer, answers
from controlplane.observe.probe.sockets import NoProber, Prober, open_prober
from netns import brigade
from netns.build import set_link
from netns.host import Host
from netns.network import Network
from netns.polling import NotInTimeError, wait_until
from tests.netns.agent_helpers import PORT, VIP, Fleet, cluster, table

GUE_PORT = 6080
DIP = brigade.dip(1)
PROBER = brigade.controller_address()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One server with a real agent that knows the controller as a prober."""
    with Network(brigade.brigade(servers=1)) as network:
        made = Fleet(network)
        made.publish(replace(cluster(1, [ServerState.ACTIVE]), probers=frozenset({PROBER})))
        made.publish(table(1, [1, 0]))
        made.up(1)
        wait_until(lambda: made.ready(1), "ready")
        yield made


def prober_on(host: Host, address: IPv4Address) -> Prober:
    prober: Prober = host.call(Prober, address, GUE_PORT, random.Random(1))
    return prober


@pytest.fixture
def prober(fleet: Fleet) -> Iterator[Prober]:
    made = prober_on(fleet.network[brigade.CONTROLLER], PROBER)
    yield made
    made.close()


def answered(prober: Prober, seconds: float = 3.0) -> bool:
    """Probe until an answer comes; `False` if none does in time."""
    probes: list[Probe] = []
    received: list[ProbeAnswer] = []

    def heard() -> bool:
        probe = prober.send(DIP, VIP, PORT)
        probes.extend([probe] if probe else [])
        received.extend(prober.received())
        return any(answers(answer, probe) for answer in received for probe in probes)

    try:
        wait_until(heard, "an answer", seconds)
    except NotInTimeError:
        return False
    return True


def test_a_vip_without_listener_proves_life_by_a_reset(prober: Prober) -> None:
    assert answered(prober)


def test_a_listener_proves_life_by_a_syn_ack_and_gets_no_connection(
    fleet: Fleet, prober: Prober
) -> None:
    listener: socket.socket = fleet.host(1).call(socket.create_server, (str(VIP), PORT))
    with listener:
        assert answered(prober)
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_what_else_reaches_the_controller_pushes_no_answer_out(
    fleet: Fleet, prober: Prober
) -> None:
    """Agents at a store on the same address send thousands of segments between two looks."""
    host = fleet.network[brigade.CONTROLLER]
    with (
        host.call(socket.create_server, (str(PROBER), 0)) as server,
        host.call(socket.create_connection, server.getsockname()) as busy,
    ):
        busy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted, _ = server.accept()
        with accepted:
            for _ in range(2000):
                busy.sendall(b"x")
                accepted.recv(1)
    probe = prober.send(DIP, VIP, PORT)
    assert probe
    heard: list[ProbeAnswer] = []

    def answer() -> bool:
        time.sleep(0.1)  # a look empties the buffer: let the answer come first
        heard.extend(prober.received())
        return any(answers(one, probe) for one in heard)

    wait_until(answer, "the answer to the one probe", 3.0)


def test_who_is_no_prober_gets_no_answer(fleet: Fleet) -> None:
    stranger = prober_on(fleet.network[brigade.client_name(1)], brigade.client_address(1))
    try:
        assert not answered(stranger, 0.5)
    finally:
        stranger.close()


def test_the_address_must_be_this_machines(fleet: Fleet) -> None:
    host = fleet.network[brigade.CONTROLLER]
    with pytest.raises(NoProber, match=r"10\.0\.1\.2 is not an address of this machine"):
        host.call(open_prober, [DIP], GUE_PORT)
    found: Prober = host.call(open_prober, [DIP, PROBER], GUE_PORT)
    assert found.address == PROBER
    found.close()
    with pytest.raises(NoProber, match="no probers are configured"):
        host.call(open_prober, [], GUE_PORT)


def test_a_server_drops_answers_from_its_own_vip_unless_it_is_set_to_accept_them(
    fleet: Fleet,
) -> None:
    """A controller on a server must not take its own dropped answers for deaths."""
    host = fleet.network[brigade.CONTROLLER]
    made = prober_on(host, PROBER)
    accept_local = "net.ipv4.conf.all.accept_local"
    try:
        assert host.call(made.source, VIP) == PROBER
        host.run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
        assert host.call(made.source, VIP) is None
        assert not answered(made, 0.7), "the kernel drops them"
        host.sysctl(accept_local, "1")
        assert host.call(made.source, VIP) == PROBER
        assert answered(made)
    finally:
        host.run(["ip", "address", "del", f"{VIP}/32", "dev", "lo"])
        host.sysctl(accept_local, "0")
        made.close()


def test_a_silent_agent_answers_and_a_cut_off_machine_does_not(
    fleet: Fleet, prober: Prober
) -> None:
    for process in fleet.host(1).processes:
        process.kill()
    assert answered(prober), "forwarding outlives the agent"
    router = fleet.network[brigade.ROUTER]
    set_link(router, brigade.server_name(1), up=False)
    prober.received()
    assert not answered(prober, 0.7)
