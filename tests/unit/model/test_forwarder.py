"""Every line of wire.md, section 4.2: what applies, and which of two lines applies first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.model import forward
from tests.model.frames import (
    C_TAG,
    S_TAG,
    Extension,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    framed,
    gue_packet,
    hop_by_hop,
    icmp_packet,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.unit.model.forwarder_rows import AT_REST, Row, ids, judge, patched
from tests.unit.model.wire_document import checks
from tests.unit.model.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    DNS_STATELESS,
    GAME,
    HTTP,
    HTTP6,
    NO_POOL,
    NO_TABLE,
    NO_VIP,
    NO_VIP6,
    OTHER_VIP,
    VIP,
    VIP6,
    config,
    dip,
)

TCP = tcp_packet(CLIENT, 40000, VIP, 80)
UDP = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
TCP6 = tcp_packet(CLIENT6, 40000, VIP6, 443)
UDP6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=b"question")
ELSEWHERE = tcp_packet(CLIENT, 40000, NO_VIP, 80)
ELSEWHERE6 = tcp_packet(CLIENT6, 40000, NO_VIP6, 80)
NOPS = b"\x01\x01\x01\x00"
ALL_FIVE = [hop_by_hop(), routing(), fragment_header(), authentication(), destination_options()]
SEVEN = [destination_options()] * 7
SPOOFED = udp_packet(dip(1), 40000, VIP, 6080)


def _tcp(port: int) -> bytes:
    return framed(tcp_packet(CLIENT, 40000, VIP, port))


def _tcp6(headers: Sequence[Extension] = (), port: int = 443) -> bytes:
    return tcp_packet(CLIENT6, 40000, VIP6, port, headers=headers)


LINK_ROWS = (
    Row("F1", "nothing", b""),
    Row("F1", "13 bytes", framed(TCP)[:13]),
    Row("F2", "a tag's EtherType and no more", ethernet(b"", kind=0x8100)),
    Row("F2", "3 bytes of a tag", ethernet(b"\x00\x05\x08", kind=0x88A8)),
    Row("F2", "inside the second tag", framed(TCP, tags=[S_TAG, C_TAG])[:21]),
    Row("F3", "ARP", ethernet(bytes(46), kind=0x0806)),
    Row("F3", "ARP behind a tag", ethernet(bytes(46), kind=0x0806, tags=[C_TAG])),
    Row("F3", "a tag and nothing behind it", framed(TCP, tags=[C_TAG])[:16] + b"\x00\x00"),
    Row("F3", "three tags", framed(TCP, tags=[S_TAG, C_TAG, C_TAG])),
    Row("F3", "three tags, the third cut", framed(TCP, tags=[S_TAG, C_TAG, C_TAG])[:22]),
    Row("F3", "QinQ of old", ethernet(TCP, kind=0x9100)),
    Row("F4", "33 bytes", framed(TCP[:19])),
    Row("F4", "no byte of IPv4", ethernet(b"")),
    Row("F4", "no byte of IPv6", ethernet(b"", kind=0x86DD)),
    Row("F4", "39 bytes of IPv6", framed(TCP6[:39])),
    Row("F4", "19 bytes behind two tags", framed(TCP[:19], tags=[S_TAG, C_TAG])),
    Row("F4", "version 6 in IPv4", ethernet(b"\x65" + TCP[1:])),
    Row("F4", "IPv6 in IPv4", ethernet(TCP6)),
    Row("F4", "IPv4 in IPv6", ethernet(TCP + bytes(20), kind=0x86DD)),
    Row("F4", "version before ihl", patched(TCP, 0, b"\x54")),
)

IP_ROWS = (
    Row("F5", "ihl 4", patched(TCP, 0, b"\x44")),
    Row("F5", "ihl 0", patched(TCP, 0, b"\x40")),
    Row("F5", "ihl before fragment", patched(patched(TCP, 0, b"\x44")[14:], 6, b"\x20\x00")),
    Row("F5", "ihl 6 without room for it", patched(TCP[:23], 0, b"\x46")),
    Row("F5", "ihl 15 without room for it", patched(TCP, 0, b"\x4f")),
    Row("F5", "before ICMP", patched(icmp_packet(CLIENT, VIP), 0, b"\x4f")),
    Row("F5", "before another protocol", patched(ipv4(CLIENT, VIP, 47, b""), 0, b"\x46")),
    Row("F5", "ihl 4 elsewhere", patched(ELSEWHERE, 0, b"\x44"), not_for_vip=True),
    Row("F5", "options cut elsewhere", patched(ELSEWHERE, 0, b"\x4f"), not_for_vip=True),
    Row("F6", "nothing of it", framed(_tcp6([routing()])[:40]), counter="drop_malformed"),
    Row("F6", "7 bytes of it", framed(_tcp6([routing()])[:47]), counter="drop_malformed"),
    Row(
        "F6",
        "two fragment headers",
        framed(_tcp6([fragment_header(), fragment_header(9)])),
        counter="drop_malformed",
    ),
    Row("F6", "seven", framed(_tcp6(SEVEN)), counter="drop_ext_headers"),
    Row("F6", "264 bytes", framed(_tcp6([routing(264)])), counter="drop_ext_headers"),
    Row(
        "F6",
        "before ICMP",
        framed(icmp_packet(CLIENT6, VIP6, headers=SEVEN)),
        counter="drop_ext_headers",
    ),
    Row(
        "F6",
        "cut, elsewhere",
        framed(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=[routing()])[:47]),
        not_for_vip=True,
        counter="drop_malformed",
    ),
    Row(
        "F6",
        "seven, elsewhere",
        framed(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN)),
        not_for_vip=True,
        counter="drop_ext_headers",
    ),
    Row("F7", "first", framed(icmp_packet(CLIENT, VIP, fragment=0x2000))),
    Row("F7", "later", framed(icmp_packet(CLIENT, VIP, fragment=0x0001))),
    Row("F7", "of an error", framed(icmp_packet(CLIENT, VIP, kind=3, fragment=0x2000))),
    Row("F7", "before its 8 bytes", framed(ipv4(CLIENT, VIP, 1, b"", fragment=0x2000))),
    Row(
        "F7",
        "first, IPv6",
        framed(icmp_packet(CLIENT6, VIP6, headers=[fragment_header(more=True)])),
    ),
    Row("F7", "later, IPv6", framed(icmp_packet(CLIENT6, VIP6, headers=[fragment_header(1)]))),
    Row("F7", "elsewhere", framed(icmp_packet(CLIENT, NO_VIP, fragment=0x2000)), not_for_vip=True),
    Row(
        "F7",
        "elsewhere, IPv6",
        framed(icmp_packet(CLIENT6, NO_VIP6, headers=[fragment_header(5)])),
        not_for_vip=True,
    ),
)

SERVICE_ROWS = (
    Row("F10", "GRE to a VIP", framed(ipv4(CLIENT, VIP, 47, bytes(8)))),
    Row("F10", "the other family's ICMP", framed(ipv4(CLIENT, VIP, 58, bytes(8)))),
    Row("F10", "the other family's ICMP, IPv6", framed(ipv6(CLIENT6, VIP6, 1, bytes(8)))),
    Row("F10", "an extension header's number in IPv4", framed(ipv4(CLIENT, VIP, 43, bytes(8)))),
    Row("F10", "no next header", framed(ipv6(CLIENT6, VIP6, 59, b""))),
    Row("F10", "first fragment of GRE", framed(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x2000))),
    Row(
        "F10",
        "no byte of SCTP behind headers",
        framed(ipv6(CLIENT6, VIP6, 132, b"", headers=ALL_FIVE)),
    ),
    Row("F11", "19 bytes of TCP", framed(TCP[:39])),
    Row("F11", "7 bytes of UDP", framed(UDP[:27])),
    Row("F11", "19 bytes of TCP over IPv6", framed(TCP6[:59])),
    Row("F11", "7 bytes of UDP over IPv6", framed(UDP6[:47])),
    Row("F11", "behind options", framed(tcp_packet(CLIENT, 1, VIP, 80, options=NOPS)[:43])),
    Row("F11", "behind extension headers", framed(_tcp6(ALL_FIVE)[:-1])),
    Row("F11", "a header that ends behind the frame", framed(_tcp6([routing(16)])[:50])),
    Row("F11", "a short first fragment", framed(ipv4(CLIENT, VIP, 17, bytes(7), fragment=0x2000))),
    Row("F11", "no service either", _tcp(4444)[:53]),
    Row("F11", "before spoofed", framed(SPOOFED[:27])),
    Row("F11", "short elsewhere", framed(ELSEWHERE[:39]), not_for_vip=True),
    Row("F11", "short elsewhere, IPv6", framed(ELSEWHERE6[:59]), not_for_vip=True),
    Row("F12", "own DIP to a VIP", framed(SPOOFED)),
    Row("F12", "own DIP to itself", framed(gue_packet(dip(1), dip(1), TCP))),
    Row("F12", "own DIP to another", framed(gue_packet(dip(1), dip(2), TCP))),
    Row("F12", "behind options", framed(udp_packet(dip(1), 40000, VIP, 6080, options=NOPS))),
    Row("F12", "behind tags", framed(SPOOFED, tags=[S_TAG, C_TAG])),
    Row("F12", "a first fragment", framed(udp_packet(dip(1), 40000, VIP, 6080, fragment=0x2000))),
    Row("F12", "before its length", patched(SPOOFED, 2, b"\x00\x00")),
    Row("F13", "another port", _tcp(4444)),
    Row("F13", "another protocol", framed(udp_packet(CLIENT, 40000, VIP, 80))),
    Row("F13", "another VIP", framed(tcp_packet(CLIENT, 40000, OTHER_VIP, 80))),
    Row("F13", "another VIP, IPv6", framed(tcp_packet(CLIENT6, 40000, NO_VIP6, 443))),
    Row("F13", "another port, IPv6", framed(_tcp6(port=80))),
    Row("F13", "GUE from another DIP", framed(gue_packet(dip(2), dip(1), TCP))),
    Row("F13", "own DIP, other port", framed(udp_packet(dip(1), 40000, VIP, 6081))),
    Row("F13", "own DIP, TCP", framed(tcp_packet(dip(1), 40000, VIP, 6080))),
    Row("F13", "before its length", patched(tcp_packet(CLIENT, 1, VIP, 4444), 2, b"\x00\x00")),
)

LENGTH_ROWS = (
    Row("F14", "total length 39", patched(TCP, 2, b"\x00\x27"), service=HTTP),
    Row("F14", "total length 27", patched(UDP, 2, b"\x00\x1b"), service=DNS),
    Row("F14", "longer than the frame", patched(TCP, 2, b"\x00\x29"), service=HTTP),
    Row("F14", "payload length 19", patched(TCP6, 4, b"\x00\x13"), service=HTTP6),
    Row("F14", "payload length 7", patched(UDP6, 4, b"\x00\x07"), service=DNS6),
    Row("F14", "longer than the frame, IPv6", patched(TCP6, 4, b"\x00\x15"), service=HTTP6),
    Row(
        "F14",
        "options count as read",
        patched(tcp_packet(CLIENT, 40000, VIP, 80, options=NOPS), 2, b"\x00\x2b"),
        service=HTTP,
    ),
    Row(
        "F14",
        "extension headers count as read",
        patched(_tcp6([routing(24)]), 4, bytes([0, 24 + 19])),
        service=HTTP6,
    ),
    Row(
        "F14",
        "a tag is no part",
        framed(TCP[:2] + b"\x00\x2b" + TCP[4:], tags=[C_TAG]),
        service=HTTP,
    ),
    Row("F14", "before the table", patched(_tcp(81)[14:], 2, b"\x00\x29"), service=NO_TABLE),
    Row("F15", "a pool of None", _tcp(81), service=NO_TABLE),
    Row("F15", "a pool that is missing", _tcp(82), service=NO_POOL),
    Row("F16", "no chain", framed(TCP), config(1), HTTP),
    Row("F16", "zero first", framed(TCP), config(1, (0, 2)), HTTP),
    Row("F16", "zero first, UDP", framed(UDP), config(1, (0, 2)), DNS),
    Row("F17", "first hop", framed(TCP), config(1, (9,)), HTTP),
    Row("F17", "later hop", framed(TCP6), config(1, (2, 9)), HTTP6),
    Row("F17", "later hop, first is self", framed(TCP), config(1, (1, 9)), HTTP),
    Row("F17", "self", framed(TCP), config(1, (1,), no_entry=frozenset({1})), HTTP),
    Row("F17", "before too big", framed(TCP), config(1, (9,), mtu=75), HTTP),
)

SENT_ROWS = (
    Row("F18", "self alone", framed(TCP), config(1, (1,)), HTTP),
    Row("F18", "self alone, IPv6", framed(TCP6), config(1, (1,)), HTTP6),
    Row("F18", "self alone, tags", framed(TCP, tags=[S_TAG, C_TAG]), config(1, (1,)), HTTP),
    Row("F18", "self, then zero", framed(TCP), config(1, (1, 0, 3)), HTTP),
    Row("F18", "self, too big", framed(TCP), config(1, (1,), mtu=75), HTTP),
    Row("F19", "self first", framed(TCP), config(1, (1, 2)), HTTP),
    Row("F19", "self first, IPv6", framed(TCP6), config(1, (1, 2)), HTTP6),
    Row("F19", "self oldest, UDP", framed(UDP), config(1, (2, 1)), DNS),
    Row("F19", "self, fits to the byte", framed(TCP), config(1, (1, 2), mtu=80), HTTP),
    Row("F19", "self, fits to the byte, IPv6", framed(TCP6), config(1, (1, 2), mtu=100), HTTP6),
    Row(
        "F19", "self, too big without DF", patched(TCP, 6, b"\0\0"), config(1, (1, 2), mtu=79), HTTP
    ),
    Row(
        "F19",
        "self, too big, a first fragment without DF",
        patched(TCP, 6, b"\x20\0"),
        config(1, (1, 2), mtu=79),
        HTTP,
    ),
    Row(
        "F20",
        "self, 1 byte over",
        framed(TCP),
        config(1, (1, 2), mtu=79),
        HTTP,
        counter="drop_too_big",
    ),
    Row(
        "F20",
        "self, IPv6, 1 byte over",
        framed(TCP6),
        config(1, (1, 2), mtu=99),
        HTTP6,
        counter="drop_too_big",
    ),
    Row(
        "F20",
        "self, 512 bytes, 1 byte over",
        framed(tcp_packet(CLIENT, 1, VIP, 80, payload=bytes(472))),
        config(1, (1, 2), mtu=551),
        HTTP,
        counter="tx_too_big",
    ),
    Row(
        "F20",
        "no hop, 1 byte over",
        framed(TCP),
        config(1, (2,), mtu=75),
        HTTP,
        counter="drop_too_big",
    ),
    Row(
        "F20",
        "one hop, 1 byte over",
        framed(TCP),
        config(1, (2, 3), mtu=79),
        HTTP,
        counter="drop_too_big",
    ),
    Row(
        "F20",
        "IPv6, 1 byte over",
        framed(TCP6),
        config(1, (2,), mtu=95),
        HTTP6,
        counter="drop_too_big",
    ),
    Row(
        "F20",
        "512 bytes, 1 byte over",
        framed(tcp_packet(CLIENT, 1, VIP, 80, payload=bytes(472))),
        config(1, (2,), mtu=547),
        HTTP,
        counter="tx_too_big",
    ),
    Row("F21", "at rest", framed(TCP), service=HTTP),
    Row("F21", "at rest, IPv6", framed(TCP6), service=HTTP6),
    Row("F21", "two tags", framed(TCP, tags=[S_TAG, C_TAG]), service=HTTP),
    Row("F21", "options", framed(tcp_packet(CLIENT, 1, VIP, 80, options=NOPS)), service=HTTP),
    Row(
        "F21",
        "40 bytes of options",
        framed(udp_packet(CLIENT, 1, VIP, 53, options=NOPS * 10)),
        service=DNS,
    ),
    Row("F21", "all extension headers", framed(_tcp6(ALL_FIVE)), service=HTTP6),
    Row("F21", "six of them", framed(_tcp6(list(SEVEN[:6]))), service=HTTP6),
    Row("F21", "256 bytes of them", framed(_tcp6([routing(256)])), service=HTTP6),
    Row(
        "F21", "an atomic fragment", framed(_tcp6([fragment_header(reserved=0x3FF)])), service=HTTP6
    ),
    Row(
        "F21",
        "a first fragment",
        framed(udp_packet(CLIENT, 1, VIP, 53, fragment=0x2000)),
        service=DNS,
    ),
    Row("F21", "padding", framed(TCP) + bytes(6), service=HTTP),
    Row("F21", "fits to the byte", framed(TCP), config(1, (2,), mtu=76), HTTP),
    Row(
        "F21",
        "fits to the byte, tags do not count",
        framed(TCP, tags=[C_TAG]),
        config(1, (2,), mtu=76),
        HTTP,
    ),
    Row("F21", "fits to the byte, IPv6", framed(TCP6), config(1, (2,), mtu=96), HTTP6),
    Row("F21", "DF and the reserved bit", patched(TCP, 6, b"\xc0\x00"), service=HTTP),
    Row("F21", "then zero", framed(TCP), config(1, (2, 0, 3)), HTTP),
    Row(
        "F21",
        "stateless UDP visits the current one only",
        framed(udp_packet(CLIENT, 40000, OTHER_VIP, 53)),
        config(1, (2, 9)),
        DNS_STATELESS,
    ),
    Row("F22", "one later hop", framed(TCP), config(1, (2, 3), mtu=80), HTTP),
    Row("F22", "three later hops, self last", framed(TCP), config(1, (2, 3, 4, 1)), HTTP),
    Row("F22", "UDP", framed(udp_packet(CLIENT, 1, OTHER_VIP, 27015)), config(1, (1, 2)), GAME),
    Row("F22", "UDP over IPv6", framed(UDP6), config(1, (1, 2)), DNS6),
    Row(
        "F22",
        "no checks of what the inner stack checks",
        patched(TCP, 10, b"\xff\xff" + TCP[12:32] + b"\x00"),
        config(1, (2, 3)),
        HTTP,
    ),
)

ROWS = LINK_ROWS + IP_ROWS + SERVICE_ROWS + LENGTH_ROWS + SENT_ROWS


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_line(row: Row) -> None:
    judge(row)


def test_every_line_has_a_row_for_each_of_its_ends() -> None:
    ends = {
        (line, end.counter) for line, found in checks(4).items() for end in found if line[0] == "F"
    }
    seen = {(row.line, row.counter or checks(4)[row.line][0].counter) for row in ROWS}
    assert seen == ends


def test_every_vip_question_is_asked_both_ways() -> None:
    lines = {line: ends for line, ends in checks(4).items() if line[0] == "F"}
    questions = {line for line, ends in lines.items() if any(end.only_for_vip for end in ends)}
    assert {row.line for row in ROWS if row.not_for_vip} == questions


def test_a_vip_is_an_address_of_any_service() -> None:
    frame = framed(icmp_packet(CLIENT, VIP))
    without = replace(AT_REST, services=())
    assert forward(frame, without).counter == "pass_no_service"


@pytest.mark.parametrize("chain", [(1, 2), (2, 3)])
@pytest.mark.parametrize(("flags", "counter"), [(0x4000, "tx_too_big"), (0, "drop_too_big")])
def test_an_outer_length_that_16_bits_cannot_say(
    chain: tuple[int, ...], flags: int, counter: str
) -> None:
    """Where the MTU is over 65,535 the model has one word more about F19 and F20."""
    most = 0xFFFF - 40
    fits = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 40), fragment=flags)
    over = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 39), fragment=flags)
    here = config(1, chain, mtu=1 << 17)
    assert forward(framed(fits), here).counter in {"pass_to_self", "tx_forward_chain"}
    assert forward(framed(over), here).counter == counter


def test_what_cannot_be_told_goes_to_self_up_to_what_16_bits_can_say() -> None:
    most = 0xFFFF - 40
    fits = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 40), fragment=0)
    over = ipv4(CLIENT, VIP, 6, TCP[20:] + bytes(most - 39), fragment=0)
    here = config(1, (1, 2), mtu=1500)
    assert forward(framed(fits), here).counter == "pass_to_self"
    assert forward(framed(over), here).counter == "drop_too_big"
