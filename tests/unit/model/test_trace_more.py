"""Packets followed through a small fleet: IPv6, tags, ICMP errors, fragments, too big ones."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest

from tests.model import Outcome, Path, Server, SocketState, SocketTable, trace
from tests.model.frames import (
    C_TAG,
    S_TAG,
    destination_options,
    fragments_of,
    framed,
    icmp_error,
    icmp_packet,
    tcp_packet,
    udp_packet,
)
from tests.packets.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    HTTP,
    HTTP6,
    STRANGER,
    VIP,
    VIP6,
    config,
    dip,
    flow,
)

ACK = 0x10
SOCKETS = {
    flow(HTTP): SocketState.KNOWN,
    flow(HTTP6): SocketState.KNOWN,
    flow(DNS): SocketState.UDP_CONNECTED,
    flow(DNS6): SocketState.UDP_CONNECTED,
}
DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=ACK)
DATA6 = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=ACK)
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=bytes(3000))
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=bytes(3000))
ERRORS = {
    "TCP": icmp_error(STRANGER, tcp_packet(VIP, 80, CLIENT, 40000)[:28]),
    "UDP": icmp_error(STRANGER, udp_packet(VIP, 53, CLIENT, 40000)),
    "TCP over IPv6": icmp_error(CLIENT6 + 9, tcp_packet(VIP6, 443, CLIENT6, 40000)),
    "UDP over IPv6": icmp_error(CLIENT6 + 9, udp_packet(VIP6, 53, CLIENT6, 40000)),
}
CHAIN = (4, 2, 1, 3)


def _fleet(owner: int | None, chain: tuple[int, ...] = CHAIN) -> dict[IPv4Address, Server]:
    """Four servers with the same chain; the owner has all connections, the others only listen."""
    return {
        dip(number): Server(
            config(number, chain),
            SocketTable(SOCKETS if number == owner else {}, SocketState.LISTEN),
        )
        for number in range(1, 5)
    }


def _end(path: Path) -> tuple[Outcome, IPv4Address]:
    return path.outcome, path.last_server


@pytest.mark.parametrize("owner", [1, 2, 3, 4])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_chain_of_four_finds_the_owner_over_ipv6(at: int, owner: int) -> None:
    path = trace(framed(DATA6), dip(at), _fleet(owner))
    assert _end(path) == (Outcome.DELIVERED, dip(owner))
    assert path.frame is not None
    assert path.frame[12:] == b"\x86\xdd" + DATA6
    query = udp_packet(CLIENT6, 40000, VIP6, 53, headers=[destination_options()])
    assert _end(trace(framed(query), dip(at), _fleet(owner))) == (Outcome.DELIVERED, dip(owner))


@pytest.mark.parametrize("owner", [1, 2, 3, 4])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_finds_the_owner(error: bytes, at: int, owner: int) -> None:
    path = trace(framed(error), dip(at), _fleet(owner))
    assert _end(path) == (Outcome.DELIVERED, dip(owner))
    assert path.frame is not None
    assert path.frame.endswith(error)


def test_an_error_about_a_flow_that_nobody_knows_ends_at_the_last_hop() -> None:
    path = trace(framed(ERRORS["TCP"]), dip(2), _fleet(None))
    assert _end(path) == (Outcome.IGNORED, dip(3))
    path = trace(framed(ERRORS["UDP over IPv6"]), dip(2), _fleet(None))
    assert _end(path) == (Outcome.IGNORED, dip(4))


def test_an_error_that_no_forwarder_sends_on() -> None:
    about_an_echo = icmp_error(STRANGER, icmp_packet(VIP, CLIENT, kind=0))
    path = trace(framed(about_an_echo), dip(2), _fleet(1))
    assert path.counters == ("pass_vip_icmp", "ok_not_gue")
    assert path.last_server == dip(2)


def _traced(pieces: Sequence[bytes], at: int, fleet: dict[IPv4Address, Server]) -> list[Path]:
    return [trace(framed(piece), dip(at), fleet) for piece in pieces]


@pytest.mark.parametrize("owner", [1, 2, 3, 4])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("packet", [QUERY, QUERY6], ids=["IPv4", "IPv6"])
def test_all_fragments_end_where_the_first_does(packet: bytes, at: int, owner: int) -> None:
    pieces = fragments_of(packet, 1400)
    paths = _traced(pieces, at, _fleet(owner))
    assert {_end(path) for path in paths} == {(Outcome.FRAGMENT, dip(owner))}
    assert len(paths) == 3
    for path, piece in zip(paths, pieces, strict=True):
        assert path.frame is not None
        assert path.frame.endswith(piece)


def test_a_later_fragment_that_comes_first() -> None:
    first, later, last = fragments_of(QUERY, 1400)
    paths = _traced([later, first, last], 1, _fleet(2))
    assert [path.outcome for path in paths] == [
        Outcome.DROPPED,
        Outcome.FRAGMENT,
        Outcome.FRAGMENT,
    ]
    assert paths[0].counters == ("drop_fragment",)


def test_a_router_that_spreads_fragments_loses_them() -> None:
    first, later, _ = fragments_of(QUERY6, 1400)
    fleet = _fleet(2)
    trace(framed(first), dip(1), fleet)
    assert trace(framed(later), dip(2), fleet).counters == ("drop_fragment",)


def test_a_redirector_that_restarted_has_no_decision() -> None:
    first, later, _ = fragments_of(QUERY, 1400)
    fleet = _fleet(2)
    trace(framed(first), dip(1), fleet)
    fleet[dip(3)] = _fleet(2)[dip(3)]
    path = trace(framed(later), dip(1), fleet)
    assert path.counters == ("tx_forward_chain", "pass_no_service", "drop_inner_fragment")
    assert path.last_server == dip(3)


@pytest.mark.parametrize("tag", [C_TAG, S_TAG])
@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize("packet", [DATA, DATA6], ids=["IPv4", "IPv6"])
def test_a_tag_goes_all_the_way(packet: bytes, at: int, tag: bytes) -> None:
    path = trace(framed(packet, tags=[tag]), dip(at), _fleet(1))
    assert _end(path) == (Outcome.DELIVERED, dip(1))
    for step in path.steps:
        assert step.result.frame is not None
        has_tag = step.result.frame[12:16] == tag
        assert has_tag == (step.program == "forwarder")


def test_the_kernel_takes_out_one_tag_of_two() -> None:
    """So the redirector sees a tag where GUE would be, and leaves the frame alone."""
    path = trace(framed(DATA, tags=[S_TAG, C_TAG]), dip(1), _fleet(1))
    assert path.counters == ("tx_forward_chain", "pass_no_service", "ok_not_gue")
    assert path.last_server == dip(4)


@pytest.mark.parametrize(
    "packet",
    [
        tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1460)),
        tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1440)),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_packet_that_is_too_big_is_answered_by_the_first_server(packet: bytes) -> None:
    path = trace(framed(packet), dip(1), _fleet(2))
    assert path.counters == ("tx_too_big",)
    assert _end(path) == (Outcome.ANSWERED, dip(1))
    assert path.frame is not None
    assert path.frame[6:12] == framed(packet)[:6]


def test_a_whole_packet_in_the_stack_with_options_and_headers() -> None:
    options = tcp_packet(CLIENT, 40000, VIP, 80, flags=ACK, options=b"\x01\x01\x01\x00")
    headers = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=ACK, headers=[destination_options()])
    for packet in (options, headers):
        path = trace(framed(packet), dip(1), _fleet(1, chain=(1,)))
        assert path.counters == ("pass_local", "ok_not_gue")
        assert path.outcome is Outcome.DELIVERED
