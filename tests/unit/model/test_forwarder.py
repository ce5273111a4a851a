"""Every line of wire.md, section 4: what applies, and which of two lines applies first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.model import Config, forward
from tests.model.frames import ethernet, gue_packet, icmp_packet, ipv4, tcp_packet, udp_packet
from tests.unit.model.wire_document import checks
from tests.unit.model.world import (
    CLIENT,
    DNS,
    DNS_STATELESS,
    GAME,
    HTTP,
    NO_POOL,
    NO_TABLE,
    NO_VIP,
    OTHER_VIP,
    VIP,
    config,
    dip,
)

CHECKS = checks(4)
TCP = tcp_packet(CLIENT, 40000, VIP, 80)
UDP = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
ELSEWHERE = tcp_packet(CLIENT, 40000, NO_VIP, 80)
AT_REST = config(1, (2,))
OPTIONS = b"\x01\x01\x01\x00"
SPOOFED = udp_packet(dip(1), 40000, VIP, 6080)


def _tcp(port: int) -> bytes:
    return ethernet(tcp_packet(CLIENT, 40000, VIP, port))


def _patched(packet: bytes, at: int, value: bytes) -> bytes:
    """A frame around a packet with some bytes overwritten."""
    return ethernet(packet[:at] + value + packet[at + len(value) :])


@dataclass(frozen=True)
class Row:
    """A frame, the line that decides about it, and the service that counts it."""

    line: str
    name: str
    frame: bytes
    config: Config = AT_REST
    service: int | None = None
    not_for_vip: bool = False


ROWS = (
    Row("F1", "nothing", b""),
    Row("F1", "13 bytes", ethernet(b"")[:13]),
    Row("F2", "802.1Q", ethernet(b"\x00\x05\x08\x00" + TCP, kind=0x8100)),
    Row("F2", "802.1ad", ethernet(b"\x00\x05\x08\x00" + TCP, kind=0x88A8)),
    Row("F2", "a tag and no more", ethernet(b"", kind=0x8100)),
    Row("F3", "IPv6", ethernet(bytes(40), kind=0x86DD)),
    Row("F3", "IPv6 and no more", ethernet(b"", kind=0x86DD)),
    Row("F4", "ARP", ethernet(bytes(46), kind=0x0806)),
    Row("F5", "33 bytes", ethernet(TCP[:19])),
    Row("F5", "version 6", _patched(TCP, 0, b"\x65")),
    Row("F5", "version before ihl", _patched(TCP, 0, b"\x54")),
    Row("F6", "ihl 4", _patched(TCP, 0, b"\x44")),
    Row("F6", "ihl 0", _patched(TCP, 0, b"\x40")),
    Row("F6", "ihl before fragment", _patched(_patched(TCP, 0, b"\x44")[14:], 6, b"\x20\x00")),
    Row("F6", "ihl 4 elsewhere", _patched(ELSEWHERE, 0, b"\x44"), not_for_vip=True),
    Row("F7", "options", ethernet(ipv4(CLIENT, VIP, 6, TCP[20:], options=OPTIONS))),
    Row("F7", "ihl 6 without room for it", _patched(TCP, 0, b"\x46")[:34]),
    Row(
        "F7",
        "options before fragment",
        ethernet(ipv4(CLIENT, VIP, 6, TCP[20:], options=OPTIONS, fragment=0x2000)),
    ),
    Row("F7", "options elsewhere", _patched(ELSEWHERE, 0, b"\x46"), not_for_vip=True),
    Row("F8", "first fragment", _patched(UDP, 6, b"\x20\x00")),
    Row("F8", "last fragment", _patched(UDP, 6, b"\x00\x01")),
    Row("F8", "the top bit of the offset", _patched(UDP, 6, b"\x10\x00")),
    Row("F8", "ICMP fragment", _patched(icmp_packet(CLIENT, VIP), 6, b"\x20\x00")),
    Row("F8", "fragment of GRE", _patched(ipv4(CLIENT, VIP, 47, b""), 6, b"\x20\x00")),
    Row("F8", "fragment elsewhere", _patched(ELSEWHERE, 6, b"\x20\x00"), not_for_vip=True),
    Row("F9", "echo request", ethernet(icmp_packet(CLIENT, VIP))),
    Row("F9", "fragmentation needed", ethernet(icmp_packet(CLIENT, VIP, kind=3, code=4))),
    Row("F9", "ICMP without a header", ethernet(ipv4(CLIENT, OTHER_VIP, 1, b""))),
    Row("F9", "ICMP elsewhere", ethernet(icmp_packet(CLIENT, NO_VIP)), not_for_vip=True),
    Row("F10", "GRE to a VIP", ethernet(ipv4(CLIENT, VIP, 47, bytes(8)))),
    Row("F11", "19 bytes of TCP", ethernet(TCP[:39])),
    Row("F11", "7 bytes of UDP", ethernet(UDP[:27])),
    Row("F11", "no service either", _tcp(4444)[:53]),
    Row("F11", "short elsewhere", ethernet(ELSEWHERE[:39]), not_for_vip=True),
    Row("F12", "own DIP to a VIP", ethernet(SPOOFED)),
    Row("F12", "own DIP to itself", ethernet(gue_packet(dip(1), dip(1), TCP))),
    Row("F12", "own DIP to another", ethernet(gue_packet(dip(1), dip(2), TCP))),
    Row("F12", "before its length", _patched(SPOOFED, 2, b"\x00\x00")),
    Row("F13", "another port", _tcp(4444)),
    Row("F13", "another protocol", ethernet(udp_packet(CLIENT, 40000, VIP, 80))),
    Row("F13", "another VIP", ethernet(tcp_packet(CLIENT, 40000, OTHER_VIP, 80))),
    Row("F13", "GUE from another DIP", ethernet(gue_packet(dip(2), dip(1), TCP))),
    Row("F13", "own DIP, other port", ethernet(udp_packet(dip(1), 40000, VIP, 6081))),
    Row("F13", "own DIP, TCP", ethernet(tcp_packet(dip(1), 40000, VIP, 6080))),
    Row("F14", "total length 39", _patched(TCP, 2, b"\x00\x27"), service=HTTP),
    Row("F14", "total length 27", _patched(UDP, 2, b"\x00\x1b"), service=DNS),
    Row("F14", "longer than the frame", _patched(TCP, 2, b"\x00\x29"), service=HTTP),
    Row("F14", "before the table", _patched(_tcp(81)[14:], 2, b"\x00\x29"), service=NO_TABLE),
    Row("F15", "a pool of None", _tcp(81), service=NO_TABLE),
    Row("F15", "a pool that is missing", _tcp(82), service=NO_POOL),
    Row("F16", "no chain", ethernet(TCP), config(1), HTTP),
    Row("F16", "zero first", ethernet(TCP), config(1, (0, 2)), HTTP),
    Row("F16", "zero first, UDP", ethernet(UDP), config(1, (0, 2)), DNS),
    Row("F17", "first hop", ethernet(TCP), config(1, (9,)), HTTP),
    Row("F17", "later hop", ethernet(TCP), config(1, (2, 9)), HTTP),
    Row("F17", "later hop, first is self", ethernet(TCP), config(1, (1, 9)), HTTP),
    Row("F17", "self", ethernet(TCP), config(1, (1,), no_entry=frozenset({1})), HTTP),
    Row("F17", "before too big", ethernet(TCP), config(1, (9,), mtu=75), HTTP),
    Row("F18", "self alone", ethernet(TCP), config(1, (1,)), HTTP),
    Row("F18", "self, then zero", ethernet(TCP), config(1, (1, 0, 3)), HTTP),
    Row("F18", "self, too big", ethernet(TCP), config(1, (1,), mtu=75), HTTP),
    Row("F19", "self first", ethernet(TCP), config(1, (1, 2)), HTTP),
    Row("F19", "self oldest, UDP", ethernet(UDP), config(1, (2, 1)), DNS),
    Row("F19", "self, too big", ethernet(TCP), config(1, (1, 2), mtu=75), HTTP),
    Row("F20", "no hop, 1 byte over", ethernet(TCP), config(1, (2,), mtu=75), HTTP),
    Row("F20", "one hop, 1 byte over", ethernet(TCP), config(1, (2, 3), mtu=79), HTTP),
    Row("F21", "at rest", ethernet(TCP), service=HTTP),
    Row("F21", "fits to the byte", ethernet(TCP), config(1, (2,), mtu=76), HTTP),
    Row("F21", "DF and the reserved bit", _patched(TCP, 6, b"\xc0\x00"), service=HTTP),
    Row("F21", "then zero", ethernet(TCP), config(1, (2, 0, 3)), HTTP),
    Row(
        "F21",
        "stateless UDP visits the current one only",
        ethernet(udp_packet(CLIENT, 40000, OTHER_VIP, 53)),
        config(1, (2, 9)),
        DNS_STATELESS,
    ),
    Row("F22", "one later hop", ethernet(TCP), config(1, (2, 3), mtu=80), HTTP),
    Row("F22", "three later hops, self last", ethernet(TCP), config(1, (2, 3, 4, 1)), HTTP),
    Row("F22", "UDP", ethernet(udp_packet(CLIENT, 1, OTHER_VIP, 27015)), config(1, (1, 2)), GAME),
    Row(
        "F22",
        "no checks of what the inner stack checks",
        _patched(TCP, 10, b"\xff\xff" + TCP[12:32] + b"\x00"),
        config(1, (2, 3)),
        HTTP,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.line}: {row.name}" for row in ROWS])
def test_line(row: Row) -> None:
    check = CHECKS[row.line]
    expected = (check.verdict, check.counter)
    if row.not_for_vip:
        assert check.only_for_vip
        expected = ("pass", "pass_no_service")
    result = forward(row.frame, row.config)
    assert (result.verdict, result.counter, result.service) == (*expected, row.service)
    if result.verdict == "drop":
        assert result.frame is None
    elif row.line in {"F19", "F21", "F22"}:
        assert result.frame != row.frame
    else:
        assert result.frame == row.frame


def test_every_line_has_a_row() -> None:
    assert {row.line for row in ROWS} == set(CHECKS)


def test_every_vip_question_is_asked_both_ways() -> None:
    asked = {row.line for row in ROWS if row.not_for_vip}
    assert asked == {line for line, check in CHECKS.items() if check.only_for_vip}


def test_a_vip_is_an_address_of_any_service() -> None:
    frame = ethernet(icmp_packet(CLIENT, VIP))
    without = replace(AT_REST, services=())
    assert forward(frame, without).counter == "pass_no_service"


def test_an_mtu_of_65535_lets_a_packet_to_self_through_that_it_can_name() -> None:
    """The model's own answer where the document has none: F19 with a length beyond 16 bits."""
    most = 0xFFFF - 40
    fits = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 40))
    over = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 39))
    at_self = config(1, (1, 2))
    assert forward(ethernet(fits), at_self).counter == "pass_to_self"
    assert forward(ethernet(over), at_self).counter == "drop_too_big"
