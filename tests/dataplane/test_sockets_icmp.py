"""The redirector and ICMP against real sockets: errors follow connections (R15 to R22, 6.1)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.dataplane.socket_case import (
    ACK,
    FAMILIES,
    PORT,
    UDP_PORT,
    V4,
    B,
    C,
    Case,
    D,
    Family,
    port_of,
)
from tests.dataplane.socket_states import ANY, PLAIN, RARE, TCP_STATES, Shape, families
from tests.model import Address, SocketState
from tests.model.frames import icmp_error, icmp_packet, tcp_packet, udp_packet

ROUTERS: dict[int, Address] = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8:f::1")}
KINDS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
# embedded upper layer: as much as an old router quotes, and all of it
CUTS: dict[str, int | None] = {"8-bytes": 8, "whole": None}


def sent(
    family: Family, protocol: int, client_port: int, shape: Shape, cut: int | None, to: Address
) -> bytes:
    """What a server sent to a client, as far as an error quotes it."""
    if protocol == 6:
        ends = (family.vip, PORT, to, client_port)
        packet = tcp_packet(*ends, flags=ACK, payload=b"content", **shape)
        upper = len(packet) - 27
    else:
        packet = udp_packet(family.vip, UDP_PORT, to, client_port, payload=b"content", **shape)
        upper = len(packet) - 15
    return packet if cut is None else packet[: upper + cut]


def errors(
    family: Family, protocol: int, port: int, client: Address | None = None
) -> Iterable[bytes]:
    """Every shape of an error about a packet that the server sent to a client's port."""
    for cut in CUTS.values():
        for embedded in (PLAIN, RARE[family.version]):
            about = sent(family, protocol, port, embedded, cut, client or family.client)
            for outside in (PLAIN, RARE[family.version]):
                yield icmp_error(ROUTERS[family.version], about, **outside)
    about = sent(family, protocol, port, PLAIN, 8, client or family.client)
    for kind in KINDS[family.version]:
        yield icmp_error(ROUTERS[family.version], about, kind=kind, code=0)


def ask_all(case: Case, packets: Iterable[bytes], state: SocketState) -> set[str]:
    """The counters with hops left; without, each stays."""
    counters = set()
    for packet in packets:
        assert case.ask(packet, state, hops=(D, C), next_hop=2) == "accept_last_hop"
        counters |= {case.ask(packet, state, hops=hops) for hops in ((C,), (B, D, C))}
    return counters


@families
@pytest.mark.parametrize("state", TCP_STATES)
def test_tcp(case: Case, family: Family, state: str) -> None:
    known, make = TCP_STATES[state]
    port = make(case, family)
    client = family.silent if state == "SYN-RECV" else family.client
    wanted = "accept_icmp_error" if known is SocketState.KNOWN else "pass_on"
    assert ask_all(case, errors(family, 6, port, client), known) == {wanted}


def connected(case: Case, family: Family) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT).connect((str(family.client), 5353))


def unconnected(case: Case, family: Family) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)


def none(case: Case, family: Family) -> None:
    """No socket."""


UDP_STATES: dict[str, tuple[SocketState, Callable[[Case, Family], None]]] = {
    "connected": (SocketState.UDP_CONNECTED, connected),
    "unconnected": (SocketState.UDP_UNCONNECTED, unconnected),
    "no-socket": (SocketState.NONE, none),
}


@families
@pytest.mark.parametrize("state", UDP_STATES)
def test_udp(case: Case, family: Family, state: str) -> None:
    known, make = UDP_STATES[state]
    make(case, family)
    wanted = "accept_icmp_error" if known is SocketState.UDP_CONNECTED else "pass_on"
    assert ask_all(case, errors(family, 17, 5353), known) == {wanted}
    assert ask_all(case, errors(family, 17, 5354), SocketState.NONE) == {"pass_on"}


def test_connections_of_a_dual_stack_listener_get_their_errors(case: Case) -> None:
    listener = case.listen(ANY, family=socket.AF_INET6)
    for family in FAMILIES:
        client, _ = case.connect(listener, family)
        wanted = {"accept_icmp_error"}
        assert ask_all(case, errors(family, 6, port_of(client)), SocketState.KNOWN) == wanted
        assert ask_all(case, errors(family, 6, 1), SocketState.LISTEN) == {"pass_on"}


def test_an_error_about_a_first_fragment_is_one_about_its_flow(case: Case) -> None:
    connected(case, V4)
    about = sent(V4, 17, 5353, {"fragment": 0x2000}, 8, V4.client)
    packet = icmp_error(ROUTERS[4], about)
    assert case.ask(packet, SocketState.UDP_CONNECTED) == "accept_icmp_error"


@families
def test_what_is_embedded_counts_as_the_servers_packet_not_as_the_clients(
    case: Case, family: Family
) -> None:
    """Ports and addresses are read turned round: the other way they are a stranger's."""
    port = case.established(family)
    ends = (family.client, port, family.vip, PORT)
    packet = icmp_error(
        ROUTERS[family.version], tcp_packet(*ends, flags=ACK), destination=family.vip
    )
    assert case.ask(packet, SocketState.KNOWN) == "drop_not_vip"
    turned = (family.vip, port, family.client, PORT)
    packet = icmp_error(ROUTERS[family.version], tcp_packet(*turned, flags=ACK))
    assert case.ask(packet, SocketState.NONE) == "pass_on"


@families
def test_an_echo_request_stays_at_the_first_hop(case: Case, family: Family) -> None:
    for shape in (PLAIN, RARE[family.version]):
        packet = icmp_packet(family.client, family.vip, **shape)
        assert case.ask(packet, SocketState.NONE) == "accept_echo"
