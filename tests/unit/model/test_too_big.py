"""Answers to packets that do not fit: an independent dissector, and their number."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from tests.model import Memory, forward
from tests.model.frames import framed
from tests.packets.too_big import ANSWERED, AWAY, BIG, BIG6, DROPPED
from tests.packets.world import CLIENT, CLIENT6, VIP, VIP6

MTU = 1500


def _counter(packet: bytes, memory: Memory | None = None) -> str:
    return forward(framed(packet), AWAY, memory).counter


def _answer(packet: bytes) -> bytes:
    answer = forward(framed(packet), AWAY).frame
    assert answer is not None
    return answer


def test_the_packets_are_one_byte_over() -> None:
    assert len(BIG) + 40 == len(BIG6) + 40 == MTU + 1


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


def test_so_many_answers_and_no_more_until_the_next_window() -> None:
    memory = Memory(answers_left=2)
    counters = [_counter(packet, memory) for packet in (BIG, BIG6, BIG, BIG6)]
    assert counters == [ANSWERED, ANSWERED, DROPPED, DROPPED]
    memory.answers_left = 1
    assert [_counter(BIG, memory), _counter(BIG, memory)] == [ANSWERED, DROPPED]


def test_without_a_limit_there_is_none() -> None:
    memory = Memory()
    assert {_counter(BIG, memory) for _ in range(100)} == {ANSWERED}
