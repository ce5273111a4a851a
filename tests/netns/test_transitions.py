"""Buckets that move, and move again: chains of four and of two live through the same events."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import brigade, client_address, server_name
from netns.network import Network
from netns.polling import wait_until
from tests.model.frames import tcp_packet
from tests.netns import sites
from tests.netns.deep_site import LOOKUP_PORT, DeepSite
from tests.netns.sites import chain, chains, cohort, finished, grown, index_of, total

DRAINED, DRAINED_LATER, KILLED = 3, 4, 2
ANSWER_SECONDS = 1.0
ASKED_TIMES = 5
DETOURS = ("tx_forward_chain", "pass_to_self", "pass_on", "accept_udp_socket")
PSH_ACK = 0x18
FEW_EPHEMERAL_PORTS = "40000 40255"


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """Four servers that share two pools equally: chains of four, chains of two."""
    with Network(brigade(servers=len(scenario.FIRST_SERVERS) + 1)) as network:
        made = DeepSite(network)
        try:
            sites.start(made)
            yield made
        finally:
            made.store.close()


@pytest.fixture
def few_ephemeral_ports(site: Site) -> Iterator[None]:
    """Make sure that a UDP flow with an ephemeral port has the port of an earlier flow.

    A server that still has the earlier flow's connected socket would take the new flow, although
    its bucket moved. Such a flow would break when that server dies: with all of the ephemeral
    ports once in twenty runs, with these few every time.
    """
    name = "net.ipv4.ip_local_port_range"
    usual = site.client.sysctl(name)
    site.client.sysctl(name, FEW_EPHEMERAL_PORTS)
    try:
        yield
    finally:
        site.client.sysctl(name, usual)


def move_everything_to(site: Site, number: int) -> None:
    """Have one server current for every bucket: each bucket moves once."""
    wished = site.store.drained()
    if server_name(number) in wished:
        site.run_lbctl("undrain", server_name(number))
    for other in scenario.FIRST_SERVERS:
        if other != number and server_name(other) not in wished:
            site.run_lbctl("drain", server_name(other), "--force")
    site.await_equal(sites.POOLS, [number], sites.TIMEOUT_SECONDS)


def test_three_moves_at_depth_four_keep_what_depth_two_loses(site: Site) -> None:
    move_everything_to(site, 1)
    deep = cohort(site, downloads=10, idle=20, udp=10)
    shallow = cohort(site, idle=20, udp=10, pool=scenario.PLAIN)
    for flows in (deep, shallow):
        assert set(flows.names().values()) == {server_name(1)}
    first = index_of(site, 1)
    move_everything_to(site, 2)
    for pool in sites.POOLS:
        assert (chains(site, pool)[:, 1] == first).all()
    assert (shallow.count().broken, len(shallow.names())) == (0, 30)
    move_everything_to(site, 3)
    move_everything_to(site, 4)
    for pool, held in ((scenario.WEB, True), (scenario.PLAIN, False)):
        assert ((chains(site, pool) == first).any(axis=1) == held).all()
    before = site.counters.read()
    assert finished(deep).broken == ()
    assert grown(site, before)[server_name(1)]["accept_last_hop"] > 0
    assert len(finished(shallow).broken) == 30


@pytest.mark.usefixtures("few_ephemeral_ports")
def test_udp_flows_stay_and_new_ones_are_at_the_current_server_at_once(site: Site) -> None:
    old = cohort(site, udp=60)
    stay = [flow for flow, server in old.names().items() if server == server_name(DRAINED)]
    assert stay
    sites.drained(site, DRAINED)
    generation = site.store.generation(scenario.WEB)
    before = site.counters.read()
    new = cohort(site, udp=60)
    through = 0
    for flow, server in new.names().items():
        servers = chain(site, flow)
        assert server == servers[0]
        through += server_name(DRAINED) in servers[1:]
    # Most were asked for at the old server first, which had no socket for them.
    assert through > 0
    assert grown(site, before)[server_name(DRAINED)]["pass_on"] >= through
    assert {old.names()[flow] for flow in stay} == {server_name(DRAINED)}
    assert grown(site, before)[server_name(DRAINED)]["accept_udp_socket"] > 0
    assert site.store.generation(scenario.WEB) == generation
    assert finished(old).broken == finished(new).broken == ()


def ask(site: Site, sockets: Sequence[socket.socket]) -> dict[str, str]:
    """Ask the lookup service once from each socket: which server answers each flow."""

    def answer(sock: socket.socket) -> str:
        for _ in range(ASKED_TIMES):
            sock.send(b"1")
            try:
                return sock.recv(2048).decode().partition(" ")[0]
            except TimeoutError:
                continue
        return "nobody"

    def name(sock: socket.socket) -> str:
        host, port = sock.getsockname()
        return f"udp {host}:{port}"

    return {name(sock): answer(sock) for sock in sockets}


def test_a_stateless_service_is_asked_of_the_current_server_alone(site: Site) -> None:
    def open_socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(ANSWER_SECONDS)
        sock.connect((str(scenario.WEB_VIP), LOOKUP_PORT))
        return sock

    sockets = [site.client.call(open_socket) for _ in range(40)]
    try:
        first = ask(site, sockets)
        moved = [flow for flow, server in first.items() if server == server_name(DRAINED_LATER)]
        assert moved
        sites.drained(site, DRAINED_LATER)
        before = site.counters.read()
        second = ask(site, sockets)
        sums = grown(site, before)
    finally:
        for sock in sockets:
            sock.close()
    for flow, server in second.items():
        assert server == chain(site, flow, port=LOOKUP_PORT)[0]
    # The old server has a socket connected to each of these clients, and nobody asked it.
    assert all(server_name(DRAINED_LATER) in chain(site, f, port=LOOKUP_PORT)[1:] for f in moved)
    assert {name: total(sums, name) for name in DETOURS} == dict.fromkeys(DETOURS, 0)


@pytest.fixture
def flooded(site: Site) -> Iterator[Site]:
    """Every server answers every SYN with a cookie, as it does in a flood."""
    sysctl = "net.ipv4.tcp_syncookies"
    servers = [site.server(number) for number in scenario.FIRST_SERVERS]
    usual = [server.sysctl(sysctl) for server in servers]
    for server in servers:
        server.sysctl(sysctl, "2")
    try:
        yield site
    finally:
        for server, value in zip(servers, usual, strict=True):
            server.sysctl(sysctl, value)


def cookies(site: Site, what: str) -> int:
    """How many cookies the servers' kernels have received so far, or found to be wrong."""
    found = 0
    for number in scenario.FIRST_SERVERS:
        text = site.server(number).run(["cat", "/proc/net/netstat"]).stdout
        names, values = (line.split() for line in text.splitlines() if line.startswith("TcpExt"))
        found += int(values[names.index(f"Syncookies{what}")])
    return found


def test_handshakes_by_syn_cookie_complete_in_transition_and_forged_ones_do_not(
    flooded: Site,
) -> None:
    site = flooded
    sites.drained(site, DRAINED, sites.POOLS)
    for pool in sites.POOLS:
        before, kernel = site.counters.read(), cookies(site, "Recv")
        flows = cohort(site, downloads=10, idle=30, pool=pool)
        moving = [flow for flow in flows.names() if len(chain(site, flow, pool)) > 1]
        assert moving
        assert all(server == chain(site, f, pool)[0] for f, server in flows.names().items())
        assert total(grown(site, before), "accept_syncookie") >= len(moving)
        assert cookies(site, "Recv") - kernel >= 40
        assert finished(flows).broken == ()
    forged = [
        port
        for port in range(20000, 20100)
        if len(chain(site, f"tcp {client_address(1)}:{port}")) > 1
    ]
    assert forged
    before, kernel = site.counters.read(), cookies(site, "Failed")
    site.client.call(lambda: send_forged(forged))
    ends = ("accept_last_hop", "accept_syncookie")
    wait_until(
        lambda: sum(total(grown(site, before), name) for name in ends) >= len(forged),
        "every forged ACK has come to an end",
        sites.TIMEOUT_SECONDS,
    )
    assert total(grown(site, before), "accept_syncookie") == 0
    assert total(grown(site, before), "pass_on") >= len(forged)
    assert cookies(site, "Failed") - kernel >= len(forged)


def send_forged(ports: Sequence[int]) -> None:
    """Send what would end a handshake, for handshakes that never began."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for port in ports:
            source = client_address(1), port
            data = b"GET / HTTP/1.0\r\n\r\n"
            packet = tcp_packet(
                *source, scenario.WEB_VIP, scenario.HTTP_PORT, flags=PSH_ACK, payload=data
            )
            sender.sendto(packet, (str(scenario.WEB_VIP), 0))


@pytest.mark.usefixtures("few_ephemeral_ports")
def test_an_old_server_that_dies_swallows_nobodys_datagrams(site: Site) -> None:
    """The last test: its server stays dead."""
    sites.drained(site, KILLED, sites.POOLS)
    deep, shallow = (cohort(site, idle=10, udp=40, pool=pool) for pool in sites.POOLS)
    for flows, pool in ((deep, scenario.WEB), (shallow, scenario.PLAIN)):
        behind = [f for f in flows.names() if server_name(KILLED) in chain(site, f, pool)[1:]]
        # UDP asks the oldest first, so these packets go to the dead until its death is published.
        assert any(flow.startswith("udp") for flow in behind)
    site.kill_server(KILLED)
    for pool in sites.POOLS:
        wait_until(
            lambda pool=pool: (  # type: ignore[misc]
                not site.store.in_any_chain(pool, server_name(KILLED))
                and site.store.is_settled(pool, site.alive())
            ),
            f"{server_name(KILLED)} is in no chain of {pool}",
            sites.TIMEOUT_SECONDS,
        )
    new = cohort(site, idle=10, udp=40)
    assert finished(new).broken == ()
    assert finished(deep).broken == finished(shallow).broken == ()
