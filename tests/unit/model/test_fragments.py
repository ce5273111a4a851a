"""What is remembered of fragments: wire.md, sections 4.4 (forwarder) and 6.2 (redirector)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.model import Memory, Result, SameSocket, SocketState, UpperLayer, forward, redirect
from tests.model.frames import (
    destination_options,
    fragment_header,
    fragments_of,
    framed,
    ipv4,
    udp_packet,
)
from tests.model.memory import FragmentKey
from tests.packets.fragments import (
    FIRST,
    FIRST6,
    LAST,
    LAST6,
    QUERY,
    QUERY6,
    QUESTION,
    SECOND,
    SECOND6,
    arrives,
)
from tests.packets.world import AT_HOP, CLIENT, CLIENT6, VIP, VIP6, config

AT_REST = config(1, (2,))


def _after(memory: Memory, packet: bytes) -> Result:
    return forward(framed(packet), AT_REST, memory)


def test_the_fragments_are_what_the_rest_of_this_page_takes_them_for() -> None:
    assert [packet[6:8].hex() for packet in (FIRST, SECOND, LAST)] == ["2000", "2003", "0006"]
    assert [packet[40:44].hex() for packet in (FIRST6, SECOND6, LAST6)] == [
        "11000001",
        "11000019",
        "11000030",
    ]
    assert [len(packet) for packet in (FIRST, SECOND, LAST)] == [44, 44, 40]
    assert [len(packet) for packet in (FIRST6, SECOND6, LAST6)] == [72, 72, 68]


def test_what_is_remembered() -> None:
    memory = Memory()
    _after(memory, FIRST)
    key = FragmentKey(CLIENT, VIP, 0x1234, 17)
    assert memory.fragments.recall(key) == UpperLayer(17, 40000, 53)
    assert len(memory.fragments) == 1


def test_only_fragments_are_remembered() -> None:
    memory = Memory()
    _after(memory, QUERY)
    _after(memory, QUERY6)
    _after(memory, udp_packet(CLIENT6, 40000, VIP6, 53, headers=[fragment_header()]))
    assert len(memory.fragments) == 0
    assert forward(framed(LAST), AT_REST).counter == "drop_fragment"


def test_the_key_of_a_first_fragment_with_headers_behind_its_own() -> None:
    """The key has the fragment header's number, the flow the upper layer's."""
    headers = [destination_options()]
    whole = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION, headers=headers)
    memory = Memory()
    _after(memory, fragments_of(whole, 48)[0])
    key = FragmentKey(CLIENT6, VIP6, 0x12345678, headers[0].number)
    assert memory.fragments.recall(key) == UpperLayer(17, 40000, 53)


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


@pytest.mark.parametrize(
    ("state", "counter"),
    [(SocketState.UDP_CONNECTED, "accept_udp_socket"), (SocketState.UDP_UNCONNECTED, "pass_on")],
)
def test_a_decision_is_the_name_of_its_counter(state: SocketState, counter: str) -> None:
    memory = Memory()
    redirect(arrives(FIRST, counter).frame, AT_HOP, SameSocket(state), memory)
    assert memory.decisions.recall(FragmentKey(CLIENT, VIP, 0x1234, 17)) == counter


def test_whole_packets_and_last_hops_are_not_remembered() -> None:
    memory = Memory()
    connected = SameSocket(SocketState.UDP_CONNECTED)
    redirect(arrives(QUERY, "accept_udp_socket").frame, AT_HOP, connected, memory)
    redirect(arrives(FIRST, "accept_last_hop", hops=()).frame, AT_HOP, connected, memory)
    assert len(memory.decisions) == 0


def test_the_two_programs_have_a_memory_each() -> None:
    memory = Memory()
    _after(memory, FIRST)
    assert (len(memory.fragments), len(memory.decisions)) == (1, 0)
    later = redirect(arrives(LAST, "drop_inner_fragment").frame, AT_HOP, SameSocket(), memory)
    assert later.counter == "drop_inner_fragment"
