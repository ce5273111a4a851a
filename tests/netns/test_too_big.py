"""Links of 1500 bytes and no jumbo frames: nothing that clients send is lost for its size."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from controlplane.domain.overhead import overhead_bytes
from netns.brigade import CLIENT_MTU, brigade, server_name
from netns.network import Network
from netns.polling import wait_until
from tests.netns.capture import Capture, above_mtu
from tests.netns.stage import BOTH, SERVERS, TCP_PLACES, UDP_PLACES, VIPS, Stage
from tests.netns.talk import PMTUDISC_DO, PMTUDISC_DONT, TcpClient, UdpClient

DEPTH = 3
BYTES = 50_000_000
IP_HEADER = {"v4": 20, "v6": 40}
TCP_HEADER, UDP_HEADER = 20, 8
TIMESTAMPS = 12
"""What TCP's timestamps take of each segment (RFC 7323); TCP_MAXSEG is without them."""
ROOM = overhead_bytes(DEPTH)


@pytest.fixture(scope="module")
def running_stage() -> Iterator[Stage]:
    """As the others' stage, on links that have no room for the wrap."""
    topology = brigade(len(SERVERS), vips=VIPS, server_mtu=CLIENT_MTU, dual_stack=True)
    with Network(topology) as network:
        made = Stage(network, DEPTH)
        made.start()
        yield made


@pytest.fixture(autouse=True)
def unknowing(stage: Stage) -> None:
    """The client knows nothing of MTUs on its ways."""
    stage.client.run(["ip", "route", "flush", "cache"])
    stage.client.run(["ip", "-6", "route", "flush", "cache"])


@pytest.fixture
def too_long(stage: Stage) -> Iterator[list[Capture]]:
    """Captures of what exceeds the MTU of the servers' links; a bucket in transition."""
    # The current server has the connection, and the wrap its full length all the same.
    stage.chain(3, 2, 1)
    with ExitStack() as close:
        yield [
            close.enter_context(Capture(stage.router, server_name(n), above_mtu(CLIENT_MTU)))
            for n in SERVERS
        ]


def largest_segment(family: str) -> int:
    """What a client may send in one segment, so that it fits once wrapped."""
    return CLIENT_MTU - ROOM - IP_HEADER[family] - TCP_HEADER - TIMESTAMPS


@pytest.mark.parametrize("cookies", [False, True], ids=["", "syn-cookies"])
@pytest.mark.parametrize("family", BOTH)
def test_50_megabytes_each_way_by_tcp(
    stage: Stage, too_long: list[Capture], family: str, cookies: bool
) -> None:
    for number in SERVERS:
        stage.host(number).sysctl("net.ipv4.tcp_syncookies", "2" if cookies else "1")
    before = stage.counters()
    full = f"tcp and greater {14 + CLIENT_MTU}"
    with (
        TcpClient(stage.client, TCP_PLACES[family]) as tcp,
        Capture(stage.router, server_name(3), "udp and dst port 6080", snap_bytes=64) as wrapped,
        Capture(stage.router, server_name(3), full, snap_bytes=64) as answers,
    ):
        # The server said so in its SYN-ACK: nothing has been too big yet.
        assert segment(tcp) == largest_segment(family)
        assert tcp.upload(1_000_000) == "server3"
        lengths = {packet.length for packet in wrapped.packets()}
        assert tcp.download(1_000_000) == "server3"
        assert answers.packets(), "answers are wrapped by nobody, and full-size"
    assert max(lengths) == 14 + CLIENT_MTU, "the room is used"
    with TcpClient(stage.client, TCP_PLACES[family]) as tcp:
        assert tcp.upload(BYTES) == "server3"
        assert tcp.download(BYTES) == "server3"
        assert segment(tcp) == largest_segment(family)
    for capture in too_long:
        assert capture.packets() == []
    for number in SERVERS:
        grown = stage.grown(before, number)
        assert grown["tx_too_big"] == grown["drop_too_big"] == 0
    assert (stage.grown(before, 3)["accept_syncookie"] > 0) == cookies


def segment(tcp: TcpClient) -> int:
    """The largest segment that a client sends now."""
    return tcp.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


@pytest.mark.parametrize(
    "chain", [(2,), (3, 2), (3, 1)], ids=["at-rest", "in-transition", "ours-first"]
)
@pytest.mark.parametrize("family", BOTH)
def test_a_sender_of_datagrams_that_must_not_be_cut_learns_the_mtu(
    stage: Stage, too_long: list[Capture], family: str, chain: tuple[int, ...]
) -> None:
    stage.chain(*chain)
    before = stage.counters()
    largest = CLIENT_MTU - IP_HEADER[family] - UDP_HEADER
    with UdpClient(stage.client, UDP_PLACES[family]) as udp:
        udp.discover(PMTUDISC_DO)
        assert udp.path_mtu == CLIENT_MTU
        udp.sock.send(b"x" * largest)
        wait_until(lambda: udp.path_mtu == CLIENT_MTU - ROOM, "the client knows the MTU", 2.0)
        # It was told, and is refused from now on.
        assert udp.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE
        with pytest.raises(OSError, match="Message too long"):
            udp.sock.send(b"x" * largest)
        assert udp.ask(largest - ROOM) == f"server{chain[0]}"
    grown = stage.grown(before, 1)
    assert (grown["tx_too_big"], grown["drop_too_big"]) == (1, 0)
    for capture in too_long:
        assert capture.packets() == []


def test_what_may_be_cut_and_was_not_is_a_counted_drop(stage: Stage) -> None:
    """IPv4 without DF: nobody has to be told, and nothing longer than the link is sent."""
    stage.chain(2)
    before = stage.counters()
    with UdpClient(stage.client, UDP_PLACES["v4"]) as udp:
        udp.discover(PMTUDISC_DONT)
        udp.sock.send(b"x" * (CLIENT_MTU - 28))
        wait_until(lambda: stage.grown(before, 1)["drop_too_big"] == 1, "it was dropped")
    assert stage.grown(before, 1)["tx_too_big"] == 0
