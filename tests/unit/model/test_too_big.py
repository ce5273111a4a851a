"""Packets that do not fit the link once wrapped: wire.md, section 4.5."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from tests.model import Memory, Result, forward
from tests.model.checksum import internet_checksum
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
    fragments_of,
    framed,
    icmp_error,
    tcp_packet,
    udp_packet,
)
from tests.model.frames.ip import transport_checksum
from tests.unit.model.world import CLIENT, CLIENT6, HTTP, HTTP6, VIP, VIP6, config

MTU = 1500
HERE = config(1, (2, 3), mtu=MTU, depth=4)
SELF_FIRST = config(1, (1, 2), mtu=MTU, depth=4)
# 20 + 20 + payload + 40 is 1 byte over the MTU; likewise with an IPv6 header's 40 bytes.
BIG = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(range(256)) * 5 + bytes(141))
BIG6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(range(256)) * 5 + bytes(121))
ANSWERED, DROPPED, TO_SELF = "tx_too_big", "drop_too_big", "pass_to_self"


def _counter(packet: bytes, memory: Memory | None = None) -> str:
    return forward(framed(packet), HERE, memory).counter


def _counter_at_first(packet: bytes, memory: Memory | None = None) -> str:
    """Where the server that the packet arrives at is the first of two."""
    return forward(framed(packet), SELF_FIRST, memory).counter


def _answer(
    packet: bytes, *, mtu: int = MTU, depth: int = 4, tags: tuple[bytes, ...] = ()
) -> bytes:
    result = forward(framed(packet, tags=tags), config(1, (2, 3)[:depth], mtu=mtu, depth=depth))
    assert (result.verdict, result.counter) == ("tx", ANSWERED)
    assert result.frame is not None
    return result.frame


def test_the_packets_are_one_byte_over() -> None:
    assert len(BIG) + 40 == len(BIG6) + 40 == MTU + 1
    assert (_counter(BIG), _counter(BIG6)) == (ANSWERED, ANSWERED)
    fits = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1420))
    assert _counter(fits) == "tx_forward_chain"


def test_golden_answer() -> None:
    """From the table of section 4.5, checksums by another program; MTU 1300, room 48."""
    header = "45c0021c0000400040014bdcc000020ac6336407"
    icmp = "0304e98b000004e4"
    packet = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1300))
    quote = packet[:512]
    ethernet = ROUTER_MAC + SERVER_MAC + b"\x08\x00"
    answer = _answer(packet, mtu=1300)
    assert answer == ethernet + bytes.fromhex(header) + bytes.fromhex(icmp) + quote


def test_golden_answer_over_ipv6() -> None:
    header = "6000000002083a40" + VIP6.packed.hex() + CLIENT6.packed.hex()
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1300))
    icmp = "02000000000004e4"
    unsummed = bytes.fromhex(icmp) + packet[:512]
    checksum = transport_checksum(VIP6, CLIENT6, 58, unsummed)
    answer = _answer(packet, mtu=1300)
    assert answer[:14] == ROUTER_MAC + SERVER_MAC + b"\x86\xdd"
    assert answer[14:54] == bytes.fromhex(header)
    assert answer[54:] == unsummed[:2] + checksum.to_bytes(2, "big") + unsummed[4:]


@pytest.mark.parametrize("tags", [(), (C_TAG,), (S_TAG, C_TAG)], ids=["none", "one", "two"])
@pytest.mark.parametrize("packet", [BIG, BIG6], ids=["IPv4", "IPv6"])
def test_tags_stay_and_the_macs_change_places(packet: bytes, tags: tuple[bytes, ...]) -> None:
    answer = _answer(packet, tags=tags)
    l3 = 14 + 4 * len(tags)
    kind = b"\x08\x00" if packet is BIG else b"\x86\xdd"
    assert answer[:l3] == ROUTER_MAC + SERVER_MAC + b"".join(tags) + kind
    assert len(answer) - l3 == (540 if packet is BIG else 560)
    assert answer[-512:] == packet[:512]


def test_another_dissector_reads_the_same() -> None:
    frame = Ether(_answer(BIG))
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == (str(VIP), str(CLIENT), 64)
    assert (frame[ICMP].type, frame[ICMP].code, frame[ICMP].nexthopmtu) == (3, 4, MTU - 48)
    for layer in (IP, ICMP):
        checksum = frame[layer].chksum
        del frame[layer].chksum
        assert Ether(bytes(frame))[layer].chksum == checksum


def test_another_dissector_reads_the_same_over_ipv6() -> None:
    frame = Ether(_answer(BIG6))
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == (str(VIP6), str(CLIENT6), 64)
    assert (frame[IPv6].tc, frame[IPv6].fl, frame[IPv6].plen) == (0, 0, 520)
    error = frame[ICMPv6PacketTooBig]
    assert (error.code, error.mtu) == (0, MTU - 48)
    checksum = error.cksum
    del error.cksum
    assert Ether(bytes(frame))[ICMPv6PacketTooBig].cksum == checksum


@pytest.mark.parametrize(("depth", "room"), [(1, 36), (2, 40), (3, 44), (4, 48)])
def test_the_room_is_the_tables_and_not_the_chains(depth: int, room: int) -> None:
    packet = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1460))
    assert int.from_bytes(_answer(packet, depth=depth)[40:42], "big") == MTU - room
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1460))
    assert int.from_bytes(_answer(packet, depth=depth)[58:62], "big") == MTU - room


def test_the_mtu_in_ipv4_is_at_most_16_bits() -> None:
    packet = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(65535 - 40))
    packet6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(65535 - 20))
    assert _answer(packet, mtu=70000)[38:42] == bytes.fromhex("0000ffff")
    assert _answer(packet6, mtu=70000)[58:62] == (70000 - 48).to_bytes(4, "big")


def test_what_is_counted() -> None:
    assert forward(framed(BIG), HERE) == Result(
        "tx", ANSWERED, forward(framed(BIG), HERE).frame, HTTP
    )
    assert forward(framed(BIG6), HERE).service == HTTP6
    assert forward(framed(BIG), HERE, Memory(answers_left=0)) == Result("drop", DROPPED, None, HTTP)


def _big(fragment: int) -> bytes:
    return tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1421), fragment=fragment)


@pytest.mark.parametrize(
    ("fragment", "counter"),
    [(0x4000, ANSWERED), (0xC000, ANSWERED), (0x0000, DROPPED), (0x8000, DROPPED)],
)
def test_only_with_DF(fragment: int, counter: str) -> None:
    assert _counter(_big(fragment)) == counter


def test_a_first_fragment_is_answered_and_a_later_one_is_not() -> None:
    memory = Memory()
    assert _counter(_big(0x2000), memory) == DROPPED
    assert _counter(_big(0x6000), memory) == ANSWERED
    assert _counter(_big(0x4001), memory) == DROPPED
    whole = udp_packet(CLIENT6, 40000, VIP6, 53, payload=bytes(4000))
    counters = [_counter(packet, memory) for packet in fragments_of(whole, 1448)]
    assert counters == [ANSWERED, DROPPED, "tx_forward_chain"]


def test_an_error_is_never_answered() -> None:
    about = tcp_packet(VIP, 80, CLIENT, 40000, payload=bytes(1421))
    about6 = tcp_packet(VIP6, 443, CLIENT6, 40000, payload=bytes(1421))
    assert _counter(icmp_error(CLIENT, about)) == DROPPED
    assert _counter(icmp_error(CLIENT6, about6)) == DROPPED


@pytest.mark.parametrize(("length", "counter"), [(511, DROPPED), (512, ANSWERED)])
def test_a_short_packet_is_not_answered(length: int, counter: str) -> None:
    here = config(1, (2,), mtu=520)
    packet = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(length - 40))
    packet6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(length - 60))
    for one in (packet, packet6):
        assert len(one) == length
        assert forward(framed(one) + bytes(9), here).counter == counter


@pytest.mark.parametrize(
    ("source", "counter"),
    [
        ("0.0.0.0", DROPPED),
        ("0.255.255.255", DROPPED),
        ("1.0.0.0", ANSWERED),
        ("126.255.255.255", ANSWERED),
        ("127.0.0.0", DROPPED),
        ("127.255.255.255", DROPPED),
        ("128.0.0.0", ANSWERED),
        ("223.255.255.255", ANSWERED),
        ("224.0.0.0", DROPPED),
        ("240.0.0.1", DROPPED),
        ("255.255.255.255", DROPPED),
    ],
)
def test_sources_that_get_no_answer(source: str, counter: str) -> None:
    packet = tcp_packet(IPv4Address(source), 1, VIP, 80, payload=bytes(1421))
    assert _counter(packet) == counter


@pytest.mark.parametrize(
    ("source", "counter"),
    [
        ("::", DROPPED),
        ("::1", DROPPED),
        ("::2", ANSWERED),
        ("0:0:0:1::", ANSWERED),
        ("fe80::1", ANSWERED),
        ("feff::", ANSWERED),
        ("ff00::", DROPPED),
        ("ff02::1", DROPPED),
        ("ffff::", DROPPED),
    ],
)
def test_sources_that_get_no_answer_over_ipv6(source: str, counter: str) -> None:
    packet = tcp_packet(IPv6Address(source), 1, VIP6, 443, payload=bytes(1421))
    assert _counter(packet) == counter


def test_so_many_answers_and_no_more() -> None:
    memory = Memory(answers_left=2)
    counters = [_counter(packet, memory) for packet in (BIG, BIG6, BIG, BIG6)]
    assert counters == [ANSWERED, ANSWERED, DROPPED, DROPPED]
    memory.answers_left = 1  # a new window
    assert [_counter(BIG, memory), _counter(BIG, memory)] == [ANSWERED, DROPPED]


def test_only_an_answer_that_is_sent_is_counted() -> None:
    memory = Memory(answers_left=1)
    assert _counter(_big(0x0000), memory) == DROPPED
    assert _counter(tcp_packet(CLIENT, 1, VIP, 80), memory) == "tx_forward_chain"
    assert (memory.answers_left, _counter(BIG, memory)) == (1, ANSWERED)


def test_without_a_limit_there_is_none() -> None:
    memory = Memory()
    assert {_counter(BIG, memory) for _ in range(100)} == {ANSWERED}


def test_the_checksums_are_right() -> None:
    answer = _answer(BIG)
    assert internet_checksum(answer[14:34]) == 0
    assert internet_checksum(answer[34:]) == 0


@pytest.mark.parametrize("tags", [(), (S_TAG, C_TAG)], ids=["none", "two"])
@pytest.mark.parametrize("packet", [BIG, BIG6], ids=["IPv4", "IPv6"])
def test_the_answer_is_the_same_where_this_server_comes_first(
    packet: bytes, tags: tuple[bytes, ...]
) -> None:
    frame = framed(packet, tags=tags)
    assert forward(frame, SELF_FIRST) == forward(frame, HERE)
    assert forward(frame, SELF_FIRST).counter == ANSWERED


def test_one_byte_less_goes_to_self() -> None:
    fits = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1420))
    fits6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1400))
    assert (_counter_at_first(fits), _counter_at_first(fits6)) == (TO_SELF, TO_SELF)


def test_alone_this_server_takes_what_is_as_big_as_it_may_be() -> None:
    assert forward(framed(BIG), config(1, (1,), mtu=MTU)).counter == "pass_local"
    assert forward(framed(BIG6), config(1, (1,), mtu=MTU)).counter == "pass_local"


@pytest.mark.parametrize(
    ("fragment", "counter"),
    [(0x4000, ANSWERED), (0xC000, ANSWERED), (0x0000, TO_SELF), (0x8000, TO_SELF)],
)
def test_to_self_without_DF(fragment: int, counter: str) -> None:
    assert _counter_at_first(_big(fragment)) == counter


def test_to_self_a_first_fragment_is_answered_and_a_later_one_goes_on() -> None:
    memory = Memory()
    assert _counter_at_first(_big(0x2000), memory) == TO_SELF
    assert _counter_at_first(_big(0x6000), memory) == ANSWERED
    assert _counter_at_first(_big(0x4001), memory) == TO_SELF
    whole = udp_packet(CLIENT6, 40000, VIP6, 53, payload=bytes(4000))
    oldest_first = config(1, (2, 1), mtu=MTU)  # UDP
    frames = [framed(packet) for packet in fragments_of(whole, 1448)]
    counters = [forward(frame, oldest_first, memory).counter for frame in frames]
    assert counters == [ANSWERED, TO_SELF, TO_SELF]


def test_to_self_an_error_goes_on() -> None:
    about = tcp_packet(VIP, 80, CLIENT, 40000, payload=bytes(1421))
    about6 = tcp_packet(VIP6, 443, CLIENT6, 40000, payload=bytes(1421))
    assert _counter_at_first(icmp_error(CLIENT, about)) == TO_SELF
    assert _counter_at_first(icmp_error(CLIENT6, about6)) == TO_SELF


def test_to_self_what_goes_unanswered_for_another_reason_is_dropped() -> None:
    """Its length, its source and the window make no kind of packet that goes on at F19."""
    short = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(471))
    assert forward(framed(short), config(1, (1, 2), mtu=520)).counter == DROPPED
    nobody = tcp_packet(IPv4Address("0.0.0.1"), 1, VIP, 80, payload=bytes(1421))
    nobody6 = tcp_packet(IPv6Address("::1"), 1, VIP6, 443, payload=bytes(1421))
    assert (_counter_at_first(nobody), _counter_at_first(nobody6)) == (DROPPED, DROPPED)
    memory = Memory(answers_left=1)
    counters = [_counter_at_first(packet, memory) for packet in (_big(0), BIG, BIG, _big(0))]
    assert counters == [TO_SELF, ANSWERED, DROPPED, TO_SELF]


def test_to_self_what_is_counted() -> None:
    assert forward(framed(BIG), SELF_FIRST).service == HTTP
    dropped = forward(framed(BIG6), SELF_FIRST, Memory(answers_left=0))
    assert dropped == Result("drop", DROPPED, None, HTTP6)
