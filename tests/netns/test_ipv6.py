"""IPv6 clients, VIPs of any port and whole prefixes: end to end, over hops and over moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.netns.stage import TCP_PLACES, UDP_PLACES, Stage
from tests.netns.talk import TcpClient, UdpClient

LONG_DOWNLOAD = 30_000_000
"""More than the buffers on both sides hold."""
ALREADY_READ = 100_000


@pytest.mark.parametrize("kind", TCP_PLACES)
def test_tcp_and_udp_reach_the_server_that_the_table_names(stage: Stage, kind: str) -> None:
    stage.chain(2)
    before = stage.counters()
    with TcpClient(stage.client, TCP_PLACES[kind]) as tcp:
        assert tcp.download(200_000) == "server2"
        assert tcp.upload(200_000) == "server2"
    with UdpClient(stage.client, UDP_PLACES[kind]) as udp:
        assert udp.ask(1000) == "server2"
    assert stage.grown(before, 1)["tx_forward"] > 150
    assert stage.grown(before, 2)["accept_last_hop"] == stage.grown(before, 1)["tx_forward"]


def test_downloads_and_udp_flows_stay_where_they_are_when_their_bucket_moves(stage: Stage) -> None:
    stage.chain(2)
    with ExitStack() as open_flows:
        old, old_udp = clients(stage, open_flows)
        for client in old.values():
            assert client.begin(LONG_DOWNLOAD) == "server2"
            client.read(ALREADY_READ)
        for udp in old_udp.values():
            assert udp.ask() == "server2"
        stage.move([2], [3, 2])
        new, new_udp = clients(stage, open_flows)
        before = stage.counters()
        for kind, client in new.items():
            assert client.name() == "server3", kind
        for kind, udp in new_udp.items():
            assert udp.ask() == "server3", kind
        for kind, udp in old_udp.items():
            assert udp.ask() == "server2", kind
        for client in old.values():
            client.read()
            # On the same connection still, by way of the new server.
            assert client.name() == "server2"
            assert client.upload(100_000) == "server2"
        grown = stage.grown(before, 3)
        assert grown["accept_syn"] == 0, "the new connections are older than that"
        assert grown["pass_on"] > 70 * len(old)
        assert grown["accept_socket"] >= len(new)
        assert stage.grown(before, 2)["accept_udp_socket"] == len(old_udp)


def clients(
    stage: Stage, open_flows: ExitStack
) -> tuple[dict[str, TcpClient], dict[str, UdpClient]]:
    """Open a TCP connection to each kind of VIP, and a socket for UDP."""
    tcp = {
        kind: open_flows.enter_context(TcpClient(stage.client, place, small_buffer=True))
        for kind, place in TCP_PLACES.items()
    }
    udp = {
        kind: open_flows.enter_context(UdpClient(stage.client, place))
        for kind, place in UDP_PLACES.items()
    }
    return tcp, udp


@pytest.fixture
def flooded(stage: Stage) -> Iterator[Stage]:
    """Every server answers every SYN with a cookie, as it does in a flood."""
    sysctl = "net.ipv4.tcp_syncookies"
    usual = {number: stage.host(number).sysctl(sysctl) for number in stage.agents}
    for number in usual:
        stage.host(number).sysctl(sysctl, "2")
    try:
        yield stage
    finally:
        for number, value in usual.items():
            stage.host(number).sysctl(sysctl, value)


@pytest.mark.parametrize("kind", TCP_PLACES)
def test_a_handshake_by_syn_cookie_completes_while_its_bucket_is_in_transition(
    flooded: Stage, kind: str
) -> None:
    flooded.chain(3, 2)
    before = flooded.counters()
    with TcpClient(flooded.client, TCP_PLACES[kind]) as tcp:
        assert tcp.download(10_000) == "server3"
    grown = flooded.grown(before, 3)
    assert (grown["accept_syn"], grown["accept_syncookie"] > 0) == (1, True)
