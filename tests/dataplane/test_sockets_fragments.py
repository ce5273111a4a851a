"""The redirector and fragments against real sockets: all of a datagram go one way (6.2)."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import ACK, PORT, SYN, UDP_PORT, B, C, Case, D, Family
from tests.dataplane.socket_states import PLAIN, RARE, TCP_STATES, families
from tests.model import SocketState
from tests.model.frames import fragments_of, tcp_packet, udp_packet
from tests.model.memory import MOST_REMEMBERED

MAP_TYPE_LRU_HASH = 9
CONTENT = bytes(100)
SIZE = 40
identifications = itertools.count(1)
"""Every datagram its own: the programs of all tests share one memory."""


def cut(packet: bytes) -> list[bytes]:
    """At least three fragments, the first with all headers, of a datagram never seen before."""
    size = 80 if packet[0] >> 4 == 6 else SIZE
    pieces = fragments_of(packet, size, identification=next(identifications))
    assert len(pieces) >= 2
    return pieces


def datagram(family: Family, *, rare: bool = False) -> list[bytes]:
    shape = RARE[family.version] if rare else PLAIN
    return cut(udp_packet(family.client, 5353, family.vip, UDP_PORT, payload=CONTENT, **shape))


def segment(case: Case, family: Family, port: int, flags: int = ACK) -> list[bytes]:
    ends = (family.client, port, family.vip, PORT)
    return cut(tcp_packet(*ends, flags=flags, numbers=case.numbers, payload=CONTENT))


def connect(case: Case, family: Family) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT).connect((str(family.client), 5353))


@families
@pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])
def test_later_fragments_follow_the_first_one_to_the_socket(
    case: Case, family: Family, rare: bool
) -> None:
    connect(case, family)
    for piece in datagram(family, rare=rare):
        assert case.ask(piece, SocketState.UDP_CONNECTED) == "accept_udp_socket"


@families
@pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])
def test_later_fragments_follow_the_first_one_to_the_next_hop(
    case: Case, family: Family, rare: bool
) -> None:
    for piece in datagram(family, rare=rare):
        assert case.ask(piece, SocketState.NONE, hops=(D, C)) == "pass_on"


@families
@pytest.mark.parametrize("state", TCP_STATES)
def test_tcp(case: Case, family: Family, state: str) -> None:
    known, make = TCP_STATES[state]
    if state == "SYN-RECV":
        family = replace(family, client=family.silent)
    port = make(case, family)
    keep = {SocketState.KNOWN, SocketState.REQUEST}
    wanted = "accept_socket" if known in keep else "pass_on"
    for piece in segment(case, family, port):
        assert case.ask(piece, known) == wanted
    for piece in segment(case, family, port, SYN):
        assert case.ask(piece, known) == "accept_syn"


@families
def test_the_decision_stands_whatever_has_become_of_the_socket(case: Case, family: Family) -> None:
    with case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT) as connected:
        connected.connect((str(family.client), 5353))
        first, *later = datagram(family)
        assert case.ask(first, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    for piece in later:
        assert case.ask(piece, SocketState.NONE) == "accept_udp_socket"


@families
def test_before_its_first_one_a_later_fragment_is_dropped(case: Case, family: Family) -> None:
    connect(case, family)
    first, *later = datagram(family)
    assert case.ask(later[-1], SocketState.UDP_CONNECTED) == "drop_inner_fragment"
    assert case.ask(first, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    assert case.ask(later[-1], SocketState.UDP_CONNECTED) == "accept_udp_socket"


@families
def test_a_decision_is_for_one_datagram_of_one_client(case: Case, family: Family) -> None:
    connect(case, family)
    (first, *_), (_, *others) = datagram(family), datagram(family)
    assert case.ask(first, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    for piece in others:
        assert case.ask(piece, SocketState.UDP_CONNECTED) == "drop_inner_fragment"
    number = next(identifications)
    for client in (family.client, family.silent):
        packet = udp_packet(client, 5353, family.vip, UDP_PORT, payload=CONTENT)
        first, *later = fragments_of(packet, SIZE, identification=number)
        if client == family.client:
            assert case.ask(first, SocketState.UDP_CONNECTED) == "accept_udp_socket"
        else:
            assert case.ask(later[0], SocketState.NONE) == "drop_inner_fragment"


@families
def test_tcp_and_udp_are_remembered_apart(case: Case, family: Family) -> None:
    number = next(identifications)
    udp = udp_packet(family.client, 5353, family.vip, UDP_PORT, payload=CONTENT)
    tcp = tcp_packet(family.client, 5353, family.vip, PORT, flags=ACK, payload=CONTENT)
    first, *_ = fragments_of(udp, SIZE, identification=number)
    _, *later = fragments_of(tcp, SIZE, identification=number)
    assert case.ask(first, SocketState.NONE) == "pass_on"
    assert case.ask(later[0], SocketState.NONE) == "drop_inner_fragment"


@families
def test_at_the_last_hop_fragments_stay_and_nothing_is_remembered(
    case: Case, family: Family
) -> None:
    first, *later = datagram(family)
    for piece in (*later, first):
        assert case.ask(piece, SocketState.NONE, hops=()) == "accept_last_hop"
        assert case.ask(piece, SocketState.NONE, hops=(B, C), next_hop=2) == "accept_last_hop"
    assert case.ask(later[0], SocketState.NONE) == "drop_inner_fragment"


def test_the_memory_is_bounded(rig: Rig) -> None:
    info = bpf_syscall.map_info(rig.dataplane.map_fd("lb_decisions"))
    assert (info.map_type, info.max_entries) == (MAP_TYPE_LRU_HASH, MOST_REMEMBERED)
