"""The redirector against real sockets: who is known here decides what stays (R16 to R21)."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from tests.dataplane.socket_case import (
    ACK,
    FAMILIES,
    FIN,
    PORT,
    RST,
    SYN,
    UDP_PORT,
    V4,
    V6,
    B,
    C,
    Case,
    D,
    Family,
    port_of,
)
from tests.dataplane.socket_states import ANY, FREE_PORT, PLAIN, RARE, TCP_STATES, families
from tests.model import SocketState
from tests.model.frames import tcp_packet, udp_packet

LAST_HOPS: tuple[tuple[IPv4Address, ...], ...] = ((), (C,), (D, C))
LEFT_HOPS: tuple[tuple[IPv4Address, ...], ...] = ((C,), (D, C), (B, D, C))

shapes = pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])
every_flag = pytest.mark.parametrize(
    "flags",
    [SYN, ACK, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | SYN, 0],
    ids=["SYN", "ACK", "SYN-ACK", "RST", "RST-ACK", "FIN-ACK", "SYN-FIN", "none"],
)


def wanted(flags: int, state: SocketState) -> str:
    """R18 to R20 for a packet without a SYN cookie that has hops left."""
    if flags & SYN and not flags & (ACK | RST):
        return "accept_syn"
    if state is SocketState.TIME_WAIT:
        return "accept_socket" if flags & RST else "pass_on"
    keep = {SocketState.KNOWN, SocketState.REQUEST}  # of a request's SYN nothing is remembered
    return "accept_socket" if state in keep else "pass_on"


@families
@pytest.mark.parametrize("state", TCP_STATES)
@shapes
@every_flag
def test_tcp(case: Case, family: Family, state: str, rare: bool, flags: int) -> None:
    known, make = TCP_STATES[state]
    port = make(case, family)
    source = family.silent if state == "SYN-RECV" else family.client
    shape = RARE[family.version] if rare else PLAIN
    ends = (source, port, family.vip, PORT)
    packet = tcp_packet(*ends, flags=flags, numbers=case.numbers, **shape)
    for hops in LEFT_HOPS:
        assert case.ask(packet, known, hops=hops) == wanted(flags, known)
    for hops in LAST_HOPS:
        assert case.ask(packet, known, hops=hops, next_hop=len(hops)) == "accept_last_hop"


@families
def test_the_socket_of_time_wait_is_in_time_wait(case: Case, family: Family) -> None:
    port = case.waiting(family)
    table = Path("/proc/thread-self/net/tcp" + ("6" if family.version == 6 else ""))
    rows = [row.split() for row in case.netns.run(table.read_text).splitlines()[1:]]
    waiting = [row for row in rows if row[3] == "06" and row[2].endswith(f":{port:04X}")]
    assert len(waiting) == 1, rows


@families
@shapes
def test_a_syn_under_forward_syn_goes_on_even_with_a_socket(
    case: Case, family: Family, rare: bool
) -> None:
    port = case.established(family)
    shape = RARE[family.version] if rare else PLAIN
    syn = tcp_packet(family.client, port, family.vip, PORT, flags=SYN, **shape)
    assert case.ask(syn, SocketState.KNOWN, private_flags=8) == "pass_on"
    ends = (family.client, port, family.vip, PORT)
    ack = tcp_packet(*ends, flags=ACK, numbers=case.numbers, **shape)
    assert case.ask(ack, SocketState.KNOWN, private_flags=8) == "accept_socket"


def test_a_dual_stack_listener_has_connections_of_both_families(case: Case) -> None:
    listener = case.listen(ANY, family=socket.AF_INET6)
    for family in FAMILIES:
        client, served = case.connect(listener, family)
        assert served.family == socket.AF_INET6
        for shape in (PLAIN, RARE[family.version]):
            ends = (family.client, port_of(client), family.vip, PORT)
            mine = tcp_packet(*ends, flags=ACK, numbers=case.numbers, **shape)
            assert case.ask(mine, SocketState.KNOWN) == "accept_socket"
            other = tcp_packet(family.client, FREE_PORT, family.vip, PORT, flags=ACK, **shape)
            assert case.ask(other, SocketState.LISTEN) == "pass_on"


def ask_udp(case: Case, family: Family, state: SocketState, port: int = 5353) -> set[str]:
    """The counters for a datagram of each shape with hops left; without, it stays."""
    packets = [
        udp_packet(family.client, port, family.vip, UDP_PORT, payload=b"x", **shape)
        for shape in (PLAIN, RARE[family.version])
    ]
    counters = {case.ask(packet, state) for packet in packets}
    for packet in packets:
        assert case.ask(packet, state, hops=(C,), next_hop=1) == "accept_last_hop"
    return counters


@families
def test_a_connected_udp_socket_keeps_its_flow_and_no_other(case: Case, family: Family) -> None:
    connected = case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)
    connected.connect((str(family.client), 5353))
    assert ask_udp(case, family, SocketState.UDP_CONNECTED) == {"accept_udp_socket"}
    assert ask_udp(case, family, SocketState.NONE, 5354) == {"pass_on"}


@families
def test_an_unconnected_udp_socket_keeps_nothing(case: Case, family: Family) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)
    assert ask_udp(case, family, SocketState.UDP_UNCONNECTED) == {"pass_on"}


@families
def test_without_a_udp_socket_a_datagram_goes_on(case: Case, family: Family) -> None:
    assert ask_udp(case, family, SocketState.NONE) == {"pass_on"}


@families
def test_beside_an_unconnected_udp_socket_the_connected_one_is_found(
    case: Case, family: Family
) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)
    connected = case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)
    connected.connect((str(family.client), 5353))
    assert ask_udp(case, family, SocketState.UDP_CONNECTED) == {"accept_udp_socket"}
    assert ask_udp(case, family, SocketState.UDP_UNCONNECTED, 5354) == {"pass_on"}


def test_an_ipv6_socket_connected_to_a_mapped_address_keeps_an_ipv4_flow(case: Case) -> None:
    local = IPv6Address(f"::ffff:{V4.vip}")
    connected = case.open(socket.SOCK_DGRAM, local, UDP_PORT, family=socket.AF_INET6)
    connected.connect((f"::ffff:{V4.client}", 5353))
    assert ask_udp(case, V4, SocketState.UDP_CONNECTED) == {"accept_udp_socket"}
    assert ask_udp(case, V4, SocketState.NONE, 5354) == {"pass_on"}
    assert ask_udp(case, V6, SocketState.NONE) == {"pass_on"}


def test_a_dual_stack_udp_socket_that_is_not_connected_keeps_nothing(case: Case) -> None:
    case.open(socket.SOCK_DGRAM, ANY, UDP_PORT, family=socket.AF_INET6)
    for family in FAMILIES:
        assert ask_udp(case, family, SocketState.UDP_UNCONNECTED) == {"pass_on"}
