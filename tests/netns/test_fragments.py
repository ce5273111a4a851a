"""Datagrams that come in pieces end at one server, also while their bucket is in transition."""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lb.dataplane.load import bpf_syscall
from netns.brigade import INTERFACE, client_address, client_address6, server_name
from netns.polling import wait_until
from tests.model.frames import fragments_of, udp_packet
from tests.netns.capture import Capture
from tests.netns.raw import ETHERTYPES, mac, send_frames
from tests.netns.stage import BOTH, ECHO_PORT, UDP_PLACES, VIP4, VIP6, Stage
from tests.netns.talk import PMTUDISC_DONT, UdpClient

SIZE = 4000
"""Three fragments."""
SOURCE_PORT = 45000
REMEMBERED = 8192
FLOOD = 20_000
MAP_GET_NEXT_KEY = 4
KEPT_MAPS = ("fragments", "decisions")


@pytest.fixture
def asker(stage: Stage) -> Iterator[ExitStack]:
    """What closes clients."""
    with ExitStack() as close:
        yield close


def learn_way_back(stage: Stage, close: ExitStack) -> None:
    """Have the servers know the MTU of the way to the client: in IPv6 they learn by losing one."""
    for server in (2, 3):
        stage.chain(server)
        assert client(stage, close, "v6").ask(SIZE) == f"server{server}"


def client(stage: Stage, close: ExitStack, family: str) -> UdpClient:
    """A client that lets its datagrams be cut."""
    made = close.enter_context(UdpClient(stage.client, UDP_PLACES[family]))
    if family == "v4":
        made.discover(PMTUDISC_DONT)
    return made


@pytest.mark.parametrize("family", BOTH)
def test_a_datagram_in_pieces_is_answered_by_the_server_of_its_bucket(
    stage: Stage, asker: ExitStack, family: str
) -> None:
    learn_way_back(stage, asker)
    stage.chain(2)
    udp = client(stage, asker, family)
    with Capture(stage.router, server_name(1), "ip[6:2] & 0x1fff != 0 or ip6[6] = 44") as pieces:
        before = stage.counters()
        assert udp.ask(SIZE, times=1) == "server2"
        assert len([p for p in pieces.packets() if p.outgoing]) >= 2
    assert stage.grown(before, 1)["tx_forward"] == 3
    assert stage.grown(before, 2)["accept_last_hop"] == 3


@pytest.mark.parametrize("family", BOTH)
def test_a_flow_keeps_its_server_when_its_bucket_moves(
    stage: Stage, asker: ExitStack, family: str
) -> None:
    """UDP asks the old server first, which has a connected socket."""
    learn_way_back(stage, asker)
    stage.chain(2)
    udp = client(stage, asker, family)
    assert udp.ask(SIZE, times=1) == "server2"
    stage.move([2], [3, 2])
    before = stage.counters()
    assert udp.ask(SIZE, times=1) == "server2"
    assert stage.grown(before, 2)["accept_udp_socket"] == 3
    new = client(stage, asker, family)
    before = stage.counters()
    assert new.ask(SIZE, times=1) == "server3"
    assert stage.grown(before, 2)["pass_on"] == 3
    assert stage.grown(before, 3)["accept_last_hop"] == 3


@pytest.mark.parametrize("family", BOTH)
def test_a_flow_at_the_second_of_three_hops_stays_there(
    stage: Stage, asker: ExitStack, family: str
) -> None:
    learn_way_back(stage, asker)
    stage.chain(2)
    udp = client(stage, asker, family)
    assert udp.ask(SIZE, times=1) == "server2"
    # Visited 1, 2, 3: the first is the one that the router sends to.
    stage.chain(3, 2, 1)
    before = stage.counters()
    assert udp.ask(SIZE, times=1) == "server2"
    assert stage.grown(before, 1)["pass_to_self"] == 3
    assert stage.grown(before, 1)["pass_on"] == 3
    assert stage.grown(before, 2)["accept_udp_socket"] == 3


def pieces(family: str, identification: int) -> list[bytes]:
    """A datagram for the UDP service in two fragments, without Ethernet."""
    source, vip = (client_address(1), VIP4) if family == "v4" else (client_address6(1), VIP6)
    whole = udp_packet(source, SOURCE_PORT, vip, ECHO_PORT, payload=b"x" * 16)
    return fragments_of(whole, 16, identification=identification)


def inject(stage: Stage, packets: Iterable[bytes]) -> None:
    """Put packets on the link to server 1, as if the router had sent them."""
    head = mac(stage.host(1), INTERFACE) + mac(stage.router, server_name(1))
    kinds = {version: kind.to_bytes(2, "big") for version, kind in ETHERTYPES}
    frames = [head + kinds[packet[0] >> 4] + packet for packet in packets]
    send_frames(stage.router, server_name(1), frames)


def first_fragments(number: int) -> Iterable[bytes]:
    """First fragments of so many datagrams of one flow."""
    (first, _rest) = pieces("v4", 0)
    for identification in range(number):
        # Nobody on the way looks at the checksum of the header.
        yield first[:4] + identification.to_bytes(2, "big") + first[6:]


@pytest.mark.parametrize("family", BOTH)
def test_a_later_fragment_that_comes_first_is_a_counted_drop(
    stage: Stage, asker: ExitStack, family: str
) -> None:
    stage.chain(2)
    first, rest = pieces(family, 0x4242)
    with stage.client.entered():
        sender = asker.enter_context(socket.socket(UDP_PLACES[family].family, socket.SOCK_DGRAM))
    sender.settimeout(2.0)
    sender.bind(("", SOURCE_PORT))
    before = stage.counters()
    inject(stage, [rest, first, rest])
    assert sender.recv(100) == b"server2 " + b"x" * 16
    grown = stage.grown(before, 1)
    assert (grown["drop_fragment"], grown["tx_forward"]) == (1, 2)
    assert stage.grown(before, 2)["accept_last_hop"] == 2


def test_a_flood_of_first_fragments_is_bounded_and_does_no_harm(
    stage: Stage, asker: ExitStack
) -> None:
    stage.chain(2)
    udp = client(stage, asker, "v4")
    assert udp.ask(SIZE, times=1) == "server2"
    bounds = [bound(stage.pins(1) / name) for name in KEPT_MAPS]
    assert all(0 < entries <= REMEMBERED for entries in bounds)
    before = stage.counters()
    inject(stage, first_fragments(FLOOD))
    wait_until(
        lambda: stage.grown(before, 1)["tx_forward"] >= FLOOD * 0.9, "all have been forwarded"
    )
    assert count(stage.pins(1) / KEPT_MAPS[0]) <= REMEMBERED
    assert udp.ask(SIZE) == "server2"


def bound(pin: Path) -> int:
    """How many entries a map can have."""
    descriptor = bpf_syscall.obj_get(pin)
    try:
        return bpf_syscall.map_info(descriptor).max_entries
    finally:
        os.close(descriptor)


def count(pin: Path) -> int:
    """How many entries a map has."""
    descriptor = bpf_syscall.obj_get(pin)
    try:
        key = ctypes.create_string_buffer(bpf_syscall.map_info(descriptor).key_size)
        at = ctypes.addressof(key)
        # The kernel writes the next key over the one that it was given; none is before the first.
        for number in itertools.count():
            attribute = struct.pack("=IIQQQ", descriptor, 0, at if number else 0, at, 0)
            try:
                bpf_syscall.bpf(
                    MAP_GET_NEXT_KEY, ctypes.create_string_buffer(attribute, len(attribute))
                )
            except FileNotFoundError:
                return number
        raise AssertionError
    finally:
        os.close(descriptor)
