"""Lines R7 to R14 and J1 to J5 of wire.md, section 6: what may be taken out of its wrap."""

from __future__ import annotations

import pytest

from tests.model import SameSocket, SocketState, redirect
from tests.model.addresses import Address
from tests.model.frames import (
    Extension,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    gue_packet,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.unit.model.redirector_rows import AT, Row, ids, judge, patched
from tests.unit.model.wire_document import checks
from tests.unit.model.world import CLIENT, CLIENT6, NO_VIP, NO_VIP6, STRANGER, VIP, VIP6, dip

A, B, C = dip(1), dip(2), dip(3)
ROUTER, ROUTER6 = STRANGER, CLIENT6 + 0x100
NOPS = b"\x01\x01\x01\x00"
SEVEN = [routing()] * 7
DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=0x10, payload=b"data")
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
ECHO = icmp_packet(CLIENT, VIP)
DATA6 = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=0x10, payload=b"data")
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=b"question")
ANSWER = tcp_packet(VIP, 80, CLIENT, 40000, flags=0x10)
ANSWER6 = tcp_packet(VIP6, 443, CLIENT6, 40000, flags=0x10)
MALFORMED, TOO_MANY = "drop_inner_malformed", "drop_inner_ext_headers"


def _in(inner: bytes, *, hops_left: bool = False) -> bytes:
    return gue_packet(A, B, inner, [C] if hops_left else [])


def _in4(inner: bytes) -> bytes:
    """As IPv4, whatever its first bits say."""
    return gue_packet(A, B, inner, proto=4)


def _in6(inner: bytes) -> bytes:
    """As IPv6, whatever its first bits say."""
    return gue_packet(A, B, inner, proto=41)


def _data6(headers: list[Extension], *, cut: int | None = None) -> bytes:
    """An IPv6 packet, cut short with a payload length that fits."""
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=0x10, headers=headers)[:cut]
    return patched(packet, 4, (len(packet) - 40).to_bytes(2, "big"))


def _about(embedded: bytes, to: Address = VIP) -> bytes:
    """An error about something that is not the destination's own packet."""
    router = ROUTER if to.version == 4 else ROUTER6
    return _in(icmp_error(router, embedded, destination=to))


IP_ROWS = (
    Row("R7", "nothing", _in4(b"")),
    Row("R7", "19 bytes", _in4(DATA[:19])),
    Row("R7", "version 6", _in4(patched(DATA, 0, b"\x65"))),
    Row("R7", "IPv6", _in4(DATA6)),
    Row("R7", "ihl 4", _in(patched(DATA, 0, b"\x44"))),
    Row("R7", "total length one less", _in(DATA + b"\x00")),
    Row("R7", "total length one more", _in(DATA[:-1])),
    Row("R7", "total length under ihl", _in(ipv4(CLIENT, VIP, 6, bytes(3), ihl=6))),
    Row("R7", "before the VIP", _in(ipv4(CLIENT, NO_VIP, 6, b"", ihl=6))),
    Row("R8", "nothing", _in6(b"")),
    Row("R8", "39 bytes", _in6(DATA6[:39])),
    Row("R8", "version 4", _in6(patched(DATA6, 0, b"\x46"))),
    Row("R8", "IPv4", _in6(DATA)),
    Row("R8", "payload length one less", _in(DATA6 + b"\x00")),
    Row("R8", "payload length one more", _in(DATA6[:-1])),
    Row("R8", "a jumbogram", _in(patched(DATA6, 4, b"\x00\x00"))),
    Row("R8", "before the VIP", _in(tcp_packet(CLIENT6, 1, NO_VIP6, 443)[:-1])),
    Row("R9", "no VIP", _in(tcp_packet(CLIENT, 40000, NO_VIP, 80))),
    Row("R9", "no VIP, IPv6", _in(tcp_packet(CLIENT6, 40000, NO_VIP6, 443))),
    Row("R9", "a DIP", _in(tcp_packet(CLIENT, 40000, B, 80))),
    Row("R9", "options", _in(ipv4(CLIENT, C, 6, DATA[20:], options=NOPS))),
    Row("R9", "before too many headers", _in(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN))),
    Row("R9", "before fragment of GRE", _in(ipv4(CLIENT, NO_VIP, 47, b"", fragment=0x2000))),
    Row("R10", "nothing of it", _in(_data6([routing()], cut=40)), counter=MALFORMED),
    Row("R10", "7 bytes of it", _in(_data6([routing()], cut=47)), counter=MALFORMED),
    Row(
        "R10", "padding is no part", _in(_data6([routing()], cut=47)) + bytes(9), counter=MALFORMED
    ),
    Row("R10", "two fragment headers", _in(_data6([fragment_header()] * 2)), counter=MALFORMED),
    Row("R10", "seven", _in(_data6(SEVEN)), counter=TOO_MANY),
    Row("R10", "264 bytes", _in(_data6([routing(264)])), counter=TOO_MANY),
)

UPPER_ROWS = (
    Row("R11", "first of GRE", _in(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x2000))),
    Row("R11", "later of GRE", _in(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x0001))),
    Row("R11", "first of ICMP", _in(icmp_packet(CLIENT, VIP, fragment=0x2000))),
    Row("R11", "later of ICMP", _in(icmp_packet(CLIENT, VIP, fragment=0x0001), hops_left=True)),
    Row(
        "R11",
        "an extension header's number in IPv4",
        _in(ipv4(CLIENT, VIP, 60, bytes(8), fragment=1)),
    ),
    Row(
        "R11",
        "first, IPv6",
        _in(ipv6(CLIENT6, VIP6, 58, bytes(8), headers=[fragment_header(more=True)])),
    ),
    Row("R11", "later, IPv6", _in(ipv6(CLIENT6, VIP6, 58, bytes(8), headers=[fragment_header(3)]))),
    Row("R13", "19 bytes of TCP", _in(ipv4(CLIENT, VIP, 6, DATA[20:39]))),
    Row("R13", "19 bytes of TCP over IPv6", _in(ipv6(CLIENT6, VIP6, 6, DATA6[40:59]))),
    Row("R13", "19 bytes behind a header", _in(_data6([authentication()], cut=40 + 24 + 19))),
    Row("R13", "a header that ends behind the packet", _in(_data6([routing(16)], cut=48))),
    Row("R13", "data offset 4", _in(tcp_packet(CLIENT, 1, VIP, 80, data_offset=4))),
    Row("R13", "data offset 6", _in(tcp_packet(CLIENT, 1, VIP, 80, data_offset=6))),
    Row("R13", "data offset 6, IPv6", _in(tcp_packet(CLIENT6, 1, VIP6, 443, data_offset=6))),
    Row(
        "R13",
        "data offset beyond a first fragment",
        _in(tcp_packet(CLIENT, 1, VIP, 80, data_offset=8, fragment=0x2000), hops_left=True),
    ),
    Row("R13", "padding is no part", _in(tcp_packet(CLIENT, 1, VIP, 80, data_offset=6)) + bytes(4)),
    Row("R13", "7 bytes of UDP", _in(ipv4(CLIENT, VIP, 17, QUERY[20:27]))),
    Row("R13", "7 bytes of UDP over IPv6", _in(ipv6(CLIENT6, VIP6, 17, QUERY6[40:47]))),
    Row(
        "R13",
        "7 bytes of UDP behind options",
        _in(ipv4(CLIENT, VIP, 17, QUERY[20:27], options=NOPS)),
    ),
    Row("R13", "7 bytes of ICMP", _in(ipv4(CLIENT, VIP, 1, ECHO[20:27]))),
    Row("R13", "7 bytes of ICMP over IPv6", _in(ipv6(CLIENT6, VIP6, 58, b"\x80" + bytes(6)))),
    Row("R13", "no byte of ICMP", _in(ipv4(CLIENT, VIP, 1, b""))),
    Row("R13", "short ICMP error", _in(ipv4(CLIENT, VIP, 1, b"\x03\x04"))),
    Row("R13", "hops left", _in(ipv4(CLIENT, VIP, 6, b""), hops_left=True)),
    Row("R14", "GRE", _in(ipv4(CLIENT, VIP, 47, b""))),
    Row("R14", "no next header", _in(ipv6(CLIENT6, VIP6, 59, b"", headers=[hop_by_hop()]))),
    Row("R14", "the other family's ICMP", _in(ipv4(CLIENT, VIP, 58, b"\x80" + bytes(7)))),
    Row("R14", "the other family's ICMP, short", _in(ipv6(CLIENT6, VIP6, 1, b""))),
    Row("R14", "echo reply", _in(icmp_packet(CLIENT, VIP, kind=0))),
    Row("R14", "echo reply over IPv6", _in(icmp_packet(CLIENT6, VIP6, kind=129))),
    Row("R14", "neighbour solicitation", _in(icmp_packet(CLIENT6, VIP6, kind=135))),
    Row("R14", "redirect", _in(icmp_error(ROUTER, ANSWER, kind=5))),
    Row("R14", "IPv6's echo in IPv4", _in(icmp_packet(CLIENT, VIP, kind=128))),
    Row("R14", "IPv4's error in IPv6", _in(icmp_error(ROUTER6, ANSWER6, kind=11))),
    Row("R14", "type 8, code 1", _in(icmp_packet(CLIENT, VIP, code=1), hops_left=True)),
    Row("R14", "type 128, code 1", _in(icmp_packet(CLIENT6, VIP6, code=1))),
)

ERROR_ROWS = (
    Row("J1", "nothing", _about(b"")),
    Row("J1", "19 bytes", _about(ANSWER[:19])),
    Row("J1", "39 bytes of IPv6", _about(ANSWER6[:39], VIP6)),
    Row("J1", "padding is no part", _about(ANSWER[:19]) + ANSWER[19:]),
    Row("J1", "ihl 4", _in(icmp_error(ROUTER, patched(ANSWER, 0, b"\x44")))),
    Row("J1", "ihl before another source", _about(patched(DATA, 0, b"\x44"))),
    Row("J1", "IPv6 in IPv4", _about(ANSWER6)),
    Row("J1", "IPv4 in IPv6", _about(ANSWER + bytes(20), VIP6)),
    Row("J1", "hops left", _in(icmp_error(ROUTER, b"", destination=VIP), hops_left=True)),
    Row("J2", "the client's own", _about(DATA)),
    Row("J2", "the client's own, IPv6", _about(DATA6, VIP6)),
    Row("J2", "before its options", _about(patched(DATA, 0, b"\x4f"))),
    Row("J2", "before its headers", _about(_data6(SEVEN), VIP6)),
    Row(
        "J3", "options cut", _in(icmp_error(ROUTER, patched(ANSWER, 0, b"\x4b"))), counter=MALFORMED
    ),
    Row(
        "J3",
        "headers cut",
        _in(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=[routing()])[:47])),
        counter=MALFORMED,
    ),
    Row(
        "J3",
        "seven",
        _in(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=SEVEN))),
        counter=TOO_MANY,
    ),
    Row(
        "J4", "later fragment", _in(icmp_error(ROUTER, udp_packet(VIP, 53, CLIENT, 1, fragment=1)))
    ),
    Row(
        "J4",
        "later fragment, IPv6",
        _in(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=[fragment_header(1)]))),
    ),
    Row("J4", "an echo reply", _in(icmp_error(ROUTER, icmp_packet(VIP, CLIENT, kind=0)))),
    Row("J4", "before short", _in(icmp_error(ROUTER, ipv4(VIP, CLIENT, 132, b"")))),
    Row("J5", "7 bytes of TCP", _in(icmp_error(ROUTER, ANSWER[:27]))),
    Row("J5", "7 bytes over IPv6", _in(icmp_error(ROUTER6, ANSWER6[:47]))),
    Row("J5", "padding is no part", _in(icmp_error(ROUTER, ANSWER[:27])) + bytes(9)),
    Row("R16", "8 bytes", _in(icmp_error(ROUTER, ANSWER[:28]))),
    Row("R16", "8 bytes over IPv6", _in(icmp_error(ROUTER6, ANSWER6[:48]))),
    Row(
        "R16",
        "options inside and out",
        _in(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, options=NOPS)[:32], options=NOPS)),
    ),
    Row(
        "R22",
        "headers inside and out",
        _in(
            icmp_error(
                ROUTER6,
                tcp_packet(VIP6, 443, CLIENT6, 1, headers=[destination_options(24)])[:72],
                headers=[routing()],
            ),
            hops_left=True,
        ),
        SocketState.KNOWN,
    ),
    Row(
        "R22",
        "a first fragment inside",
        _in(icmp_error(ROUTER, udp_packet(VIP, 53, CLIENT, 1, fragment=0x2000)), hops_left=True),
        SocketState.UDP_CONNECTED,
    ),
    Row(
        "R25", "any type and code", _in(icmp_error(ROUTER, ANSWER, kind=12, code=7), hops_left=True)
    ),
)

ROWS = IP_ROWS + UPPER_ROWS + ERROR_ROWS


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_line(row: Row) -> None:
    judge(row)


def test_every_line_has_a_row_for_each_of_its_ends() -> None:
    """R12 is about later fragments, which have tests of their own."""
    lines = {f"R{number}" for number in (7, 8, 9, 10, 11, 13, 14)} | {
        line for line in checks(6) if line[0] == "J"
    }
    ends = {(line, end.counter) for line in lines for end in checks(6)[line]}
    assert ends <= {(row.line, row.counter or checks(6)[row.line][0].counter) for row in ROWS}


@pytest.mark.parametrize("kind", [3, 11, 12])
def test_errors_of_ipv4(kind: int) -> None:
    frame = ethernet(_in(icmp_error(ROUTER, ANSWER, kind=kind, code=0)))
    assert redirect(frame, AT, SameSocket()).counter == "accept_last_hop"


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_errors_of_ipv6(kind: int) -> None:
    frame = ethernet(_in(icmp_error(ROUTER6, ANSWER6, kind=kind, code=0)))
    assert redirect(frame, AT, SameSocket()).counter == "accept_last_hop"
