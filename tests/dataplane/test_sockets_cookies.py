"""The redirector and SYN cookies: a handshake without a socket ends where it began (R20)."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address

import pytest

from tests.dataplane.socket_case import ACK, FIN, PORT, RST, SYN, Case, Family, with_numbers
from tests.dataplane.socket_states import PLAIN, RARE, Shape, families
from tests.model import SocketState
from tests.model.frames import tcp_packet

CLIENT_PORT = 42000


def segment(family: Family, flags: int, acknowledged: int, shape: Shape) -> bytes:
    """A packet of the silent client, with this acknowledgement number."""
    packet = tcp_packet(family.silent, CLIENT_PORT, family.vip, PORT, flags=flags, **shape)
    return with_numbers(packet, len(packet) - 20, acknowledged)


def assert_only_the_right_ack_stays(case: Case, family: Family, cookie: int, shape: Shape) -> None:
    right, forged = cookie + 1, cookie ^ 0x5A5A5A5A
    for flags in (ACK, ACK | FIN):
        packet = segment(family, flags, right, shape)
        assert case.ask(packet, SocketState.LISTEN_COOKIE) == "accept_syncookie"
    assert case.ask(segment(family, ACK, forged, shape), SocketState.LISTEN) == "pass_on"
    for flags in (ACK | RST, RST, SYN | ACK, FIN):
        packet = segment(family, flags, right, shape)
        assert case.ask(packet, SocketState.LISTEN_COOKIE) == "pass_on"


@families
def test_the_ack_of_a_syn_cookie_stays_and_a_forged_one_does_not(
    case: Case, family: Family
) -> None:
    case.listen(family.vip)
    cookie = case.answered_syn(family, CLIENT_PORT, cookie=True)
    for shape in (PLAIN, RARE[family.version]):
        assert_only_the_right_ack_stays(case, family, cookie, shape)


@families
def test_a_dual_stack_listener_knows_the_cookies_of_both_families(
    case: Case, family: Family
) -> None:
    case.listen(IPv6Address("::"), family=socket.AF_INET6)
    cookie = case.answered_syn(family, CLIENT_PORT, cookie=True)
    for shape in (PLAIN, RARE[family.version]):
        assert_only_the_right_ack_stays(case, family, cookie, shape)


@families
@pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])
def test_where_no_cookie_was_sent_no_ack_is_one(case: Case, family: Family, rare: bool) -> None:
    case.listen(family.vip)
    shape = RARE[family.version] if rare else PLAIN
    assert case.ask(segment(family, ACK, 1, shape), SocketState.LISTEN) == "pass_on"


@families
def test_a_data_segment_with_tcp_options_can_carry_a_cookie(case: Case, family: Family) -> None:
    case.listen(family.vip)
    cookie = case.answered_syn(family, CLIENT_PORT, cookie=True)
    for shape in (PLAIN, RARE[family.version]):
        packet = tcp_packet(
            *(family.silent, CLIENT_PORT, family.vip, PORT),
            flags=ACK,
            data_offset=8,
            payload=bytes((1,)) * 12 + b"GET / HTTP/1.0\r\n",
            **shape,
        )
        right = with_numbers(packet, len(packet) - 48, cookie + 1)
        assert case.ask(right, SocketState.LISTEN_COOKIE) == "accept_syncookie"
