"""Fragments: wire.md, sections 4.4 (forwarder) and 6.2 (redirector)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.model import Memory, Result, SameSocket, SocketState, UpperLayer, forward, redirect
from tests.model.frames import (
    C_TAG,
    S_TAG,
    Extension,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    fragments_of,
    framed,
    gue_packet,
    hop_by_hop,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.model.memory import FragmentKey
from tests.unit.model.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    NO_VIP,
    NO_VIP6,
    VIP,
    VIP6,
    config,
    dip,
)

AT_REST = config(1, (2,))
AT = config(2)
A, B, C, D = (dip(number) for number in range(1, 5))
NOPS = b"\x01\x01\x01\x00"
QUESTION = bytes(range(60))
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION)
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION)
FIRST, SECOND, LAST = fragments_of(QUERY, 24)
FIRST6, SECOND6, LAST6 = fragments_of(QUERY6, 24)
FAMILIES = pytest.mark.parametrize(
    ("first", "later", "service"), [(FIRST, LAST, DNS), (FIRST6, LAST6, DNS6)], ids=["IPv4", "IPv6"]
)


def _after(memory: Memory, packet: bytes) -> Result:
    return forward(framed(packet), AT_REST, memory)


def _counters(*packets: bytes) -> list[str]:
    memory = Memory()
    return [_after(memory, packet).counter for packet in packets]


def test_the_fragments_are_what_the_rest_of_this_page_takes_them_for() -> None:
    assert [packet[6:8].hex() for packet in (FIRST, SECOND, LAST)] == ["2000", "2003", "0006"]
    assert [packet[40:44].hex() for packet in (FIRST6, SECOND6, LAST6)] == [
        "11000001",
        "11000019",
        "11000030",
    ]
    assert [len(packet) for packet in (FIRST, SECOND, LAST)] == [44, 44, 40]
    assert [len(packet) for packet in (FIRST6, SECOND6, LAST6)] == [72, 72, 68]


@FAMILIES
def test_later_fragments_follow_the_first(first: bytes, later: bytes, service: int) -> None:
    memory = Memory()
    one, other = _after(memory, first), _after(memory, later)
    for result, packet in ((one, first), (other, later)):
        assert (result.verdict, result.counter, result.service) == ("tx", "tx_forward", service)
        assert result.frame is not None
        assert result.frame.endswith(packet)
    assert one.frame is not None
    assert other.frame is not None
    assert other.frame[26:36] == one.frame[26:36]  # addresses and source port


@FAMILIES
def test_one_that_nothing_is_remembered_of(first: bytes, later: bytes, service: int) -> None:
    result = _after(Memory(), later)
    assert (result.verdict, result.counter, result.service) == ("drop", "drop_fragment", None)
    assert forward(framed(later), AT_REST).counter == "drop_fragment"


def test_elsewhere_is_none_of_our_business() -> None:
    elsewhere = fragments_of(udp_packet(CLIENT, 1, NO_VIP, 53, payload=QUESTION), 24)
    elsewhere6 = fragments_of(udp_packet(CLIENT6, 1, NO_VIP6, 53, payload=QUESTION), 24)
    assert set(_counters(*elsewhere, *elsewhere6)) == {"pass_no_service"}


@pytest.mark.parametrize(
    "other",
    [
        fragments_of(udp_packet(CLIENT + 1, 40000, VIP, 53, payload=QUESTION), 24)[-1],
        fragments_of(udp_packet(CLIENT, 40000, VIP + 1, 53, payload=QUESTION), 24)[-1],
        fragments_of(QUERY, 24, identification=0x1235)[-1],
        fragments_of(tcp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION), 24)[-1],
        fragments_of(udp_packet(CLIENT6 + 1, 40000, VIP6, 53, payload=QUESTION), 24)[-1],
        fragments_of(QUERY6, 24, identification=0x12345679)[-1],
        fragments_of(QUERY6, 24, identification=0x02345678)[-1],
    ],
    ids=["source", "VIP", "id", "protocol", "source, IPv6", "id, IPv6", "top of the id, IPv6"],
)
def test_every_part_of_the_key_counts(other: bytes) -> None:
    assert _counters(FIRST, FIRST6, other)[-1] == "drop_fragment"


def test_what_is_remembered() -> None:
    memory = Memory()
    _after(memory, FIRST)
    key = FragmentKey(CLIENT, VIP, 0x1234, 17)
    assert memory.fragments.recall(key) == UpperLayer(17, 40000, 53)
    assert len(memory.fragments) == 1


def test_the_latest_first_fragment_counts() -> None:
    again = fragments_of(udp_packet(CLIENT, 40001, VIP, 53, payload=QUESTION), 24)[0]
    memory = Memory()
    results = [_after(memory, packet) for packet in (FIRST, again, LAST)]
    ports = [result.frame[34:36] for result in results if result.frame is not None]
    assert ports[0] != ports[1]
    assert ports[1] == ports[2]


def test_only_fragments_are_remembered() -> None:
    memory = Memory()
    _after(memory, QUERY)
    _after(memory, QUERY6)
    _after(memory, udp_packet(CLIENT6, 40000, VIP6, 53, headers=[fragment_header()]))
    assert len(memory.fragments) == 0


def _first(length: int | None = None) -> bytes:
    return ipv4(CLIENT, VIP, 17, QUERY[20:44], fragment=0x2000, total_length=length)


def test_only_one_that_passes_F14_is_remembered() -> None:
    assert _counters(_first(27), LAST) == ["drop_malformed", "drop_fragment"]
    assert _counters(_first(45), LAST) == ["drop_malformed", "drop_fragment"]
    assert _counters(_first(28), LAST) == ["tx_forward", "tx_forward"]
    no_service = fragments_of(udp_packet(CLIENT, 1, VIP, 4444, payload=QUESTION), 24)
    assert _counters(*no_service) == ["pass_no_service", "drop_fragment", "drop_fragment"]


@pytest.mark.parametrize(
    ("chain", "counter"), [((), "drop_no_bucket"), ((9,), "drop_no_dip"), ((1,), "pass_local")]
)
def test_one_that_a_later_line_decides_is_remembered(chain: tuple[int, ...], counter: str) -> None:
    memory = Memory()
    assert forward(framed(FIRST), config(1, chain), memory).counter == counter
    assert _after(memory, LAST).counter == "tx_forward"


def test_a_later_fragment_looks_up_its_service_anew() -> None:
    memory = Memory()
    _after(memory, FIRST)
    moved = replace(AT_REST, services=AT_REST.services[:1])
    assert forward(framed(LAST), moved, memory).counter == "pass_no_service"


@pytest.mark.parametrize("number", [1, 47, 58])
def test_fragments_of_something_else(number: int) -> None:
    """ICMP of the other family is "something else"; of its own it is line F7."""
    counter = "pass_vip_icmp" if number == 1 else "pass_no_service"
    assert _counters(ipv4(CLIENT, VIP, number, bytes(8), fragment=1)) == [counter]
    counter = "pass_vip_icmp" if number == 58 else "pass_no_service"
    later = ipv6(CLIENT6, VIP6, number, bytes(8), headers=[fragment_header(1)])
    assert _counters(later) == [counter]


@pytest.mark.parametrize("number", [0, 43, 44, 51, 60])
def test_an_extension_headers_number_in_the_key(number: int) -> None:
    """In IPv6 a first fragment can begin with more headers; in IPv4 the number says nothing."""
    later6 = ipv6(CLIENT6, VIP6, number, bytes(8), headers=[fragment_header(1)])
    assert _counters(later6) == ["drop_fragment"]
    assert _counters(ipv4(CLIENT, VIP, number, bytes(8), fragment=1)) == ["pass_no_service"]


@pytest.mark.parametrize(
    ("behind", "service"),
    [([destination_options()], DNS6), ([authentication(), hop_by_hop()], DNS6)],
    ids=["one", "two"],
)
def test_headers_behind_the_fragment_header(behind: list[Extension], service: int) -> None:
    """The key has the fragment header's number, the flow the upper layer's."""
    whole = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION, headers=behind)
    first, *rest = fragments_of(whole, 48)
    memory = Memory()
    assert _after(memory, first).counter == "tx_forward"
    key = FragmentKey(CLIENT6, VIP6, 0x12345678, behind[0].number)
    assert memory.fragments.recall(key) == UpperLayer(17, 40000, 53)
    for packet in rest:
        result = _after(memory, packet)
        assert (result.counter, result.service) == ("tx_forward", service)


def test_headers_before_the_fragment_header() -> None:
    def piece(offset: int, *, more: bool, payload: bytes) -> bytes:
        headers = [hop_by_hop(), routing(16), fragment_header(offset, more=more)]
        return ipv6(CLIENT6, VIP6, 17, payload, headers=headers)

    datagram = QUERY6[40:]
    first, later = piece(0, more=True, payload=datagram[:24]), piece(3, more=False, payload=b"x")
    assert _counters(first, later) == ["tx_forward", "tx_forward"]
    empty = piece(3, more=False, payload=b"")
    assert _counters(first, empty) == ["tx_forward", "drop_malformed"]


def test_F14_wants_a_byte_behind_a_later_fragments_headers() -> None:
    nothing = ipv4(CLIENT, VIP, 17, b"", fragment=6)
    one = ipv4(CLIENT, VIP, 17, b"x", fragment=6)
    behind_options = ipv4(CLIENT, VIP, 17, b"", fragment=6, options=NOPS)
    padded = nothing + b"x"
    assert _counters(FIRST, nothing, one) == ["tx_forward", "drop_malformed", "tx_forward"]
    assert _counters(FIRST, behind_options, padded)[1:] == ["drop_malformed", "drop_malformed"]


def test_options_and_tags_do_not_matter() -> None:
    memory = Memory()
    whole = udp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION, options=NOPS)
    for packet in fragments_of(whole, 24):
        result = forward(framed(packet, tags=[S_TAG, C_TAG]), AT_REST, memory)
        assert result.counter == "tx_forward"


def test_F12_is_not_asked_of_a_later_fragment() -> None:
    """A server's own DIP as a source, the GUE port remembered: the first is dropped, alone."""
    first, later, _ = fragments_of(udp_packet(A, 40000, VIP, 6080, payload=QUESTION), 24)
    assert _counters(first, later) == ["drop_spoofed", "drop_fragment"]
    memory = Memory()
    memory.fragments.remember(FragmentKey(A, VIP, 0x1234, 17), UpperLayer(17, 40000, 6080))
    assert _after(memory, later).counter == "pass_no_service"


def test_a_first_fragment_of_tcp() -> None:
    whole = tcp_packet(CLIENT, 40000, VIP, 80, payload=QUESTION)
    assert _counters(*fragments_of(whole, 24)) == ["tx_forward"] * 4
    assert _counters(*fragments_of(whole, 16))[0] == "drop_malformed"


def _source(number: int) -> IPv4Address:
    return IPv4Address("198.18.0.0") + number


def test_8192_first_fragments_are_remembered_and_the_one_unused_for_longest_forgotten() -> None:
    def of(number: int) -> tuple[bytes, bytes]:
        return (
            ipv4(_source(number), VIP, 17, QUERY[20:44], fragment=0x2000),
            ipv4(_source(number), VIP, 17, b"rest", fragment=3),
        )

    memory = Memory()
    for number in range(8192):
        _after(memory, of(number)[0])
    assert _after(memory, of(0)[1]).counter == "tx_forward"  # a use
    _after(memory, of(8192)[0])
    assert len(memory.fragments) == 8192
    assert _after(memory, of(1)[1]).counter == "drop_fragment"
    assert [_after(memory, of(number)[1]).counter for number in (0, 2, 8192)] == ["tx_forward"] * 3


def _arrive(
    memory: Memory,
    inner: bytes,
    state: SocketState = SocketState.NONE,
    *,
    hops: tuple[IPv4Address, ...] = (C,),
    next_hop: int = 0,
    private_flags: int = 0,
    mtu: int = 1500,
) -> str:
    packet = gue_packet(A, B, inner, hops, next_hop=next_hop, private_flags=private_flags)
    return redirect(ethernet(packet), replace(AT, mtu=mtu), SameSocket(state), memory).counter


@FAMILIES
def test_without_hops_left_nothing_is_remembered_or_asked(
    first: bytes, later: bytes, service: int
) -> None:
    memory = Memory()
    assert _arrive(memory, later, hops=()) == "accept_last_hop"
    assert _arrive(memory, first, hops=()) == "accept_last_hop"
    assert _arrive(memory, later, hops=(C, D), next_hop=2) == "accept_last_hop"
    assert len(memory.decisions) == 0
    assert _arrive(memory, later) == "drop_inner_fragment"


@FAMILIES
@pytest.mark.parametrize(
    ("state", "counter"),
    [(SocketState.UDP_CONNECTED, "accept_udp_socket"), (SocketState.UDP_UNCONNECTED, "pass_on")],
)
def test_a_decision_holds_for_later_fragments(
    first: bytes, later: bytes, service: int, state: SocketState, counter: str
) -> None:
    memory = Memory()
    assert _arrive(memory, later, state) == "drop_inner_fragment"
    assert _arrive(memory, first, state) == counter
    for other in SocketState:  # which are not asked again
        assert _arrive(memory, later, other, hops=(D, C)) == counter


@pytest.mark.parametrize(
    ("flags", "state", "private_flags", "counter"),
    [
        (0x02, SocketState.KNOWN, 0, "accept_syn"),
        (0x02, SocketState.KNOWN, 0x08, "pass_on"),
        (0x10, SocketState.KNOWN, 0, "accept_socket"),
        (0x10, SocketState.LISTEN_COOKIE, 0, "accept_syncookie"),
        (0x10, SocketState.LISTEN, 0, "pass_on"),
    ],
)
def test_decisions_about_tcp(
    flags: int, state: SocketState, private_flags: int, counter: str
) -> None:
    memory = Memory()
    whole = tcp_packet(CLIENT, 40000, VIP, 80, flags=flags, payload=QUESTION)
    first, later, *_ = fragments_of(whole, 32)
    assert _arrive(memory, first, state, private_flags=private_flags) == counter
    assert _arrive(memory, later) == counter
    assert memory.decisions.recall(FragmentKey(CLIENT, VIP, 0x1234, 6)) == counter


def test_a_decision_to_pass_on_asks_R23_and_R24_of_each_fragment() -> None:
    outer_length = 40 + len(LAST)
    memory = Memory()
    assert _arrive(memory, FIRST, mtu=outer_length) == "drop_too_big"
    assert _arrive(memory, LAST, mtu=outer_length) == "pass_on"
    assert _arrive(memory, LAST, mtu=outer_length - 1) == "drop_too_big"
    no_entry = config(2, no_entry=frozenset({3}))
    frame = ethernet(gue_packet(A, B, LAST, [C]))
    assert redirect(frame, no_entry, SameSocket(), memory).counter == "drop_no_dip"


def test_a_decision_to_accept_asks_ecn_of_each_fragment() -> None:
    memory = Memory()
    assert _arrive(memory, FIRST, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    marked = ethernet(gue_packet(A, B, LAST, [C], tos=3))
    assert redirect(marked, AT, SameSocket(), memory).counter == "drop_ecn"


def test_what_a_first_fragment_must_pass_before_it_is_remembered() -> None:
    memory = Memory()
    short = ipv4(CLIENT, VIP, 17, QUERY[20:27], fragment=0x2000)
    assert _arrive(memory, short, SocketState.UDP_CONNECTED) == "drop_inner_malformed"
    assert _arrive(memory, LAST) == "drop_inner_fragment"


def test_an_extension_headers_number_inside() -> None:
    whole = udp_packet(CLIENT6, 1, VIP6, 53, payload=QUESTION, headers=[destination_options()])
    first, later, *_ = fragments_of(whole, 32)
    memory = Memory()
    assert _arrive(memory, later) == "drop_inner_fragment"
    assert _arrive(memory, first, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    assert _arrive(memory, later) == "accept_udp_socket"


def test_whole_packets_are_not_remembered() -> None:
    memory = Memory()
    assert _arrive(memory, QUERY, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    assert len(memory.decisions) == 0


def test_the_two_programs_have_a_memory_each() -> None:
    memory = Memory()
    _after(memory, FIRST)
    assert (len(memory.fragments), len(memory.decisions)) == (1, 0)
    assert _arrive(memory, LAST) == "drop_inner_fragment"
