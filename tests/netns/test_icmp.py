"""ICMP errors follow the connection that they speak of; echo is answered by whoever it reaches."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netns.brigade import CLIENT_MTU, client_address, client_address6, client_name
from netns.build import index_of
from tests.model.checksum import internet_checksum
from tests.netns.stage import BOTH, TCP_PLACES, UDP_PLACES, VIP4, VIP6, Stage
from tests.netns.talk import TcpClient, UdpClient

NARROW_MTU = 1400
"""Of the last link to the client, which its end of it does not know."""
DOWNLOAD = 1_000_000
HEADERS = {"v4": 28, "v6": 48}
"""IP and UDP."""
ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO_REQUEST6, ECHO_REPLY6 = 128, 129


@pytest.fixture
def narrow(stage: Stage) -> Iterator[Stage]:
    """The router's end of the client's link is narrower than the servers can know."""
    # Linux sends few errors to one address, and a VIP is one address.
    limits = {"net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0"}
    usual = {name: stage.router.sysctl(name) for name in limits}
    for name, value in limits.items():
        stage.router.sysctl(name, value)
    set_client_link(stage, NARROW_MTU)
    try:
        yield stage
    finally:
        set_client_link(stage, CLIENT_MTU)
        for name, value in usual.items():
            stage.router.sysctl(name, value)
        for number in stage.agents:
            stage.host(number).run(["ip", "route", "flush", "cache"])
            stage.host(number).run(["ip", "-6", "route", "flush", "cache"])


def set_client_link(stage: Stage, mtu: int) -> None:
    name = client_name(1)
    stage.router.netlink(
        lambda netlink: netlink.link("set", index=index_of(netlink, name), mtu=mtu)
    )


def path_mtu(stage: Stage, number: int, family: str) -> int | None:
    """What a server has learned about the way to the client."""
    client = client_address(1) if family == "v4" else client_address6(1)
    vip = VIP4 if family == "v4" else VIP6
    words = ["ip", "-j", "route", "get", str(client), "from", str(vip)]
    (route,) = json.loads(stage.host(number).run(words).stdout)
    for metric in route.get("metrics", ()):
        if "mtu" in metric:
            return int(metric["mtu"])
    return None


@pytest.mark.parametrize("family", BOTH)
def test_a_server_learns_of_a_narrow_link_behind_the_first_hop(narrow: Stage, family: str) -> None:
    narrow.chain(2)
    assert path_mtu(narrow, 2, family) != NARROW_MTU
    with TcpClient(narrow.client, TCP_PLACES[family]) as tcp:
        before = narrow.counters()
        assert tcp.download(DOWNLOAD) == "server2"
    assert path_mtu(narrow, 2, family) == NARROW_MTU
    assert path_mtu(narrow, 1, family) != NARROW_MTU
    assert narrow.grown(before, 1)["pass_vip_icmp"] == 0


@pytest.mark.parametrize("family", BOTH)
def test_and_when_the_connection_is_on_the_second_hop(narrow: Stage, family: str) -> None:
    narrow.chain(3)
    with TcpClient(narrow.client, TCP_PLACES[family]) as tcp:
        assert tcp.name() == "server3"
        narrow.move([3], [2, 3])
        before = narrow.counters()
        assert tcp.download(DOWNLOAD) == "server3"
    assert path_mtu(narrow, 3, family) == NARROW_MTU
    assert path_mtu(narrow, 2, family) != NARROW_MTU
    assert narrow.grown(before, 2)["pass_on"] > 0
    assert narrow.grown(before, 2)["accept_icmp_error"] == 0


@pytest.mark.parametrize("family", BOTH)
def test_and_when_it_is_on_the_first_hop_of_two(narrow: Stage, family: str) -> None:
    narrow.chain(2, 3)
    before = narrow.counters()
    with TcpClient(narrow.client, TCP_PLACES[family]) as tcp:
        assert tcp.download(DOWNLOAD) == "server2"
    assert path_mtu(narrow, 2, family) == NARROW_MTU
    assert narrow.grown(before, 2)["accept_icmp_error"] > 0


@pytest.mark.parametrize("family", BOTH)
def test_and_when_it_is_about_udp(narrow: Stage, family: str) -> None:
    """UDP asks the oldest first: server 3 keeps the flow by its connected socket."""
    narrow.chain(3)
    with UdpClient(narrow.client, UDP_PLACES[family]) as udp:
        assert udp.ask() == "server3"
        narrow.move([3], [2, 3])
        before = narrow.counters()
        # The question fits the narrow link, the answer is longer by the server's name.
        assert udp.ask(NARROW_MTU - HEADERS[family]) == "server3"
    assert path_mtu(narrow, 3, family) == NARROW_MTU
    assert narrow.grown(before, 3)["accept_icmp_error"] > 0
    assert narrow.grown(before, 2)["accept_last_hop"] == 0


@pytest.mark.parametrize("family", BOTH)
def test_an_echo_request_to_a_vip_is_answered(stage: Stage, family: str) -> None:
    stage.chain(2, 3)
    before = stage.counters()
    for entrance in (1, 2):
        stage.enter_by(entrance)
        assert echo(stage, family)
    # By the server that it reached, whatever the table says.
    assert [stage.grown(before, n)["pass_vip_icmp"] for n in (1, 2)] == [1, 1]


def echo(stage: Stage, family: str) -> bool:
    """Ping a VIP once (RFC 792, RFC 4443)."""
    vip, kind = (VIP4, ECHO_REQUEST) if family == "v4" else (VIP6, ECHO_REQUEST6)
    protocol = socket.IPPROTO_ICMP if family == "v4" else socket.IPPROTO_ICMPV6
    message = struct.pack(">BBHHH", kind, 0, 0, 0xBB, 1) + b"brigade"
    if family == "v4":
        message = message[:2] + struct.pack(">H", internet_checksum(message)) + message[4:]
    with ExitStack() as close:
        with stage.client.entered():
            sock = socket.socket(TCP_PLACES[family].family, socket.SOCK_RAW, protocol)
        close.enter_context(sock)
        sock.settimeout(2.0)
        sock.sendto(message, (str(vip), 0))
        while True:
            answer, sender = sock.recvfrom(200)
            if sender[0] == str(vip) and answer.endswith(b"brigade"):
                body = answer[20:] if family == "v4" else answer
                return body[0] in (ECHO_REPLY, ECHO_REPLY6)
