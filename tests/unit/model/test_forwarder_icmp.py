"""ICMP at the forwarder: lines I1 to I9 of wire.md, section 4.3, and where an error goes."""

from __future__ import annotations

import pytest

from tests.model import Flow, forward
from tests.model.addresses import Address
from tests.model.frames import (
    C_TAG,
    authentication,
    destination_options,
    fragment_header,
    framed,
    icmp_error,
    icmp_packet,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.unit.model.forwarder_rows import Row, ids, judge, patched
from tests.unit.model.wire_document import checks
from tests.unit.model.world import (
    CLIENT,
    CLIENT6,
    DNS_STATELESS,
    HTTP,
    HTTP6,
    KEY,
    NO_TABLE,
    NO_VIP,
    NO_VIP6,
    OTHER_VIP,
    STRANGER,
    VIP,
    VIP6,
    config,
    dip,
)

NOPS = b"\x01\x01\x01\x00"
ANSWER = tcp_packet(VIP, 80, CLIENT, 40000, flags=0x10)
ANSWER6 = tcp_packet(VIP6, 443, CLIENT6, 40000, flags=0x10)
REPLY = udp_packet(VIP, 53, CLIENT, 40000)
ROUTER = STRANGER
ROUTER6 = CLIENT6 + 0x100
ERROR = icmp_error(ROUTER, ANSWER)
ERROR6 = icmp_error(ROUTER6, ANSWER6)
# Behind the outer IP header and ICMP's 8 bytes.
EMBEDDED, EMBEDDED6 = 20 + 8, 40 + 8


def _about(embedded: bytes, to: Address = VIP) -> bytes:
    """A frame with an error about something that is not the destination's own packet."""
    router = ROUTER if to.version == 4 else ROUTER6
    return framed(icmp_error(router, embedded, destination=to))


def _outer_length(packet: bytes, length: int) -> bytes:
    """A frame whose IPv4 total length says something else."""
    return patched(packet, 2, length.to_bytes(2, "big"))


ROWS = (
    Row("I1", "echo elsewhere", framed(icmp_packet(CLIENT, NO_VIP))),
    Row("I1", "echo elsewhere, IPv6", framed(icmp_packet(CLIENT6, NO_VIP6))),
    Row("I1", "an error elsewhere", _about(ANSWER, NO_VIP)),
    Row("I1", "before short", framed(ipv4(CLIENT, NO_VIP, 1, bytes(7)))),
    Row("I1", "neighbour discovery", framed(icmp_packet(CLIENT6, NO_VIP6, kind=135))),
    Row("I2", "nothing", framed(ipv4(CLIENT, OTHER_VIP, 1, b""))),
    Row("I2", "7 bytes", framed(ipv4(CLIENT, VIP, 1, b"\x08" + bytes(6)))),
    Row("I2", "7 bytes of IPv6", framed(ipv6(CLIENT6, VIP6, 58, b"\x80" + bytes(6)))),
    Row("I2", "7 bytes behind options", framed(icmp_packet(CLIENT, VIP, options=NOPS)[:31])),
    Row("I3", "echo request", framed(icmp_packet(CLIENT, VIP))),
    Row("I3", "echo request, IPv6", framed(icmp_packet(CLIENT6, VIP6))),
    Row("I3", "behind a tag", framed(icmp_packet(CLIENT, VIP), tags=[C_TAG])),
    Row("I3", "behind a header", framed(icmp_packet(CLIENT6, VIP6, headers=[routing()]))),
    Row("I3", "redirect", framed(icmp_error(ROUTER, ANSWER, kind=5))),
    Row("I3", "source quench", framed(icmp_error(ROUTER, ANSWER, kind=4))),
    Row("I3", "IPv6's types in IPv4", framed(icmp_error(ROUTER, ANSWER, kind=1))),
    Row("I3", "IPv4's types in IPv6", framed(icmp_error(ROUTER6, ANSWER6, kind=11))),
    Row("I3", "neighbour solicitation", framed(icmp_packet(CLIENT6, VIP6, kind=135))),
    Row("I3", "a wrong length is nobody's business", _outer_length(icmp_packet(CLIENT, VIP), 1)),
    Row("I4", "nothing", _about(b"")),
    Row("I4", "19 bytes", _about(ANSWER[:19])),
    Row("I4", "39 bytes of IPv6", _about(ANSWER6[:39], VIP6)),
    Row("I4", "ihl 4", patched(ERROR, EMBEDDED, b"\x44")),
    Row("I4", "IPv6 in IPv4", _about(ANSWER6)),
    Row("I4", "IPv4 in IPv6", _about(ANSWER + bytes(20), VIP6)),
    Row("I4", "version 5", patched(ERROR, EMBEDDED, b"\x55")),
    Row("I5", "another VIP's", _about(tcp_packet(OTHER_VIP, 80, CLIENT, 40000))),
    Row("I5", "the client's own", _about(tcp_packet(CLIENT, 40000, VIP, 80))),
    Row("I5", "IPv6", _about(tcp_packet(NO_VIP6, 443, CLIENT6, 40000), VIP6)),
    Row(
        "I5",
        "before too many headers",
        _about(tcp_packet(NO_VIP6, 443, CLIENT6, 1, headers=[routing()] * 7), VIP6),
    ),
    Row("I6", "options cut", patched(ERROR, EMBEDDED, b"\x4b"), counter="drop_malformed"),
    Row(
        "I6",
        "headers cut",
        framed(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=[routing()])[:47])),
        counter="drop_malformed",
    ),
    Row(
        "I6",
        "seven headers",
        framed(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=[routing()] * 7))),
        counter="drop_ext_headers",
    ),
    Row(
        "I7", "later fragment", framed(icmp_error(ROUTER, ipv4(VIP, CLIENT, 17, REPLY, fragment=1)))
    ),
    Row(
        "I7",
        "later fragment, IPv6",
        framed(
            icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=[fragment_header(1)]))
        ),
    ),
    Row("I7", "an echo reply", framed(icmp_error(ROUTER, icmp_packet(VIP, CLIENT, kind=0)))),
    Row("I7", "SCTP", framed(icmp_error(ROUTER, ipv4(VIP, CLIENT, 132, bytes(20))))),
    Row("I7", "before short", framed(icmp_error(ROUTER, ipv4(VIP, CLIENT, 132, b"")))),
    Row("I8", "7 bytes of TCP", framed(icmp_error(ROUTER, ANSWER[:27]))),
    Row("I8", "7 bytes of UDP over IPv6", framed(icmp_error(ROUTER6, ANSWER6[:47]))),
    Row(
        "I8",
        "behind options",
        framed(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, options=NOPS)[:31])),
    ),
    Row(
        "I8", "before no service", framed(icmp_error(ROUTER, tcp_packet(VIP, 4444, CLIENT, 1)[:27]))
    ),
    Row("I9", "another port", framed(icmp_error(ROUTER, tcp_packet(VIP, 4444, CLIENT, 40000)))),
    Row("I9", "another protocol", framed(icmp_error(ROUTER, tcp_packet(VIP, 53, CLIENT, 40000)))),
    Row("I9", "ports the wrong way", framed(icmp_error(ROUTER, tcp_packet(VIP, 1, CLIENT, 80)))),
    Row("I9", "IPv6", framed(icmp_error(ROUTER6, tcp_packet(VIP6, 80, CLIENT6, 40000)))),
    Row("F14", "total length ends in the 8 bytes", _outer_length(ERROR, 55), service=HTTP),
    Row("F14", "longer than the frame", _outer_length(ERROR, len(ERROR) + 1), service=HTTP),
    Row(
        "F14",
        "payload length ends in the 8 bytes",
        patched(ERROR6, 4, (8 + 40 + 7).to_bytes(2, "big")),
        service=HTTP6,
    ),
    Row(
        "F14",
        "embedded options count as read",
        _outer_length(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, options=NOPS)), 59),
        service=HTTP,
    ),
    Row(
        "F15",
        "no table",
        framed(icmp_error(ROUTER, tcp_packet(VIP, 81, CLIENT, 1))),
        service=NO_TABLE,
    ),
    Row("F16", "an empty bucket", framed(ERROR), config(1), HTTP),
    Row("F18", "for this server", framed(ERROR), config(1, (1,)), HTTP),
    Row("F19", "perhaps for this server", framed(ERROR6), config(1, (1, 2)), HTTP6),
    Row("F19", "to self, too big", framed(ERROR), config(1, (1, 2), mtu=75), HTTP),
    Row("F19", "to self, too big, IPv6", framed(ERROR6), config(1, (1, 2), mtu=75), HTTP6),
    Row(
        "F19",
        "to self, too big and long enough to quote",
        framed(icmp_error(ROUTER, ANSWER + bytes(1400))),
        config(1, (1, 2), mtu=576),
        HTTP,
    ),
    Row(
        "F20", "1 byte over", framed(ERROR), config(1, (2,), mtu=103), HTTP, counter="drop_too_big"
    ),
    Row(
        "F20",
        "never answered",
        framed(icmp_error(ROUTER, ANSWER + bytes(1400))),
        config(1, (2,), mtu=576),
        HTTP,
        counter="drop_too_big",
    ),
    Row("F21", "fits to the byte", framed(ERROR), config(1, (2,), mtu=104), HTTP),
    Row("F21", "8 bytes are enough", framed(icmp_error(ROUTER, ANSWER[:28])), service=HTTP),
    Row(
        "F21", "8 bytes are enough, IPv6", framed(icmp_error(ROUTER6, ANSWER6[:48])), service=HTTP6
    ),
    Row("F21", "total length ends behind the 8 bytes", _outer_length(ERROR, 56), service=HTTP),
    Row("F21", "time exceeded", framed(icmp_error(ROUTER, ANSWER, kind=11, code=0)), service=HTTP),
    Row("F21", "parameter problem", framed(icmp_error(ROUTER, ANSWER, kind=12)), service=HTTP),
    Row("F21", "a code nobody knows", framed(icmp_error(ROUTER, ANSWER, code=99)), service=HTTP),
    Row(
        "F21",
        "a first fragment inside",
        framed(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, fragment=0x2000))),
        service=HTTP,
    ),
    Row(
        "F21",
        "headers inside and out",
        framed(
            icmp_error(
                ROUTER6,
                tcp_packet(
                    VIP6, 443, CLIENT6, 1, headers=[authentication(), fragment_header(more=True)]
                ),
                headers=[destination_options(16)],
            )
        ),
        service=HTTP6,
    ),
    Row(
        "F21",
        "options inside and out",
        framed(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, options=NOPS), options=NOPS)),
        service=HTTP,
    ),
    Row("F21", "a wrong checksum", patched(ERROR, 22, b"\xab\xcd"), service=HTTP),
    Row("F21", "a wrong length inside", patched(ERROR, EMBEDDED + 2, b"\x00\x00"), service=HTTP),
    Row(
        "F21",
        "stateless UDP",
        framed(icmp_error(ROUTER, udp_packet(OTHER_VIP, 53, CLIENT, 1))),
        config(1, (2, 9)),
        DNS_STATELESS,
    ),
    Row("F22", "later hops", framed(ERROR6), config(1, (2, 3)), HTTP6),
    *(
        Row(
            "F21",
            f"type {kind}, IPv6",
            framed(icmp_error(ROUTER6, ANSWER6, kind=kind)),
            service=HTTP6,
        )
        for kind in (1, 2, 3, 4)
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_line(row: Row) -> None:
    judge(row)


def test_every_line_has_a_row_for_each_of_its_ends() -> None:
    lines = {line: ends for line, ends in checks(4).items() if line[0] == "I"}
    seen = {(row.line, row.counter or checks(4)[row.line][0].counter) for row in ROWS}
    assert {(line, end.counter) for line, ends in lines.items() for end in ends} <= seen


def _wrap_of(packet: bytes, chain: tuple[int, ...]) -> bytes:
    result = forward(framed(packet), config(1, chain))
    assert result.frame is not None
    return result.frame


@pytest.mark.parametrize(
    ("answer", "error"), [(ANSWER, ERROR), (ANSWER6, ERROR6), (REPLY, icmp_error(ROUTER, REPLY))]
)
def test_an_error_goes_where_its_flows_packets_go(answer: bytes, error: bytes) -> None:
    """Same hops in the same order and the same source port as the client's own packet."""
    is_tcp = answer is not REPLY
    make = tcp_packet if is_tcp else udp_packet
    client, vip, port = (CLIENT6, VIP6, 443) if answer is ANSWER6 else (CLIENT, VIP, 80)
    packet = make(client, 40000, vip, port if is_tcp else 53)
    data, about = _wrap_of(packet, (2, 3, 4)), _wrap_of(error, (2, 3, 4))
    assert about[26:36] == data[26:36]  # addresses and source port
    assert about[50:58] == data[50:58]  # hops
    assert about[30:34] == dip(2 if is_tcp else 4).packed
    assert about[58:] == error


def test_the_source_port_is_that_of_the_golden_flow() -> None:
    assert Flow(6, CLIENT, 40000, VIP, 80).hash(KEY) == 0xFA43B87DE3E4A666
    assert _wrap_of(ERROR, (2,))[34:36] == (64067).to_bytes(2, "big")


def test_the_outer_tos_is_the_errors_own() -> None:
    error = icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 40000, tos=0x04), tos=0xC0)
    assert _wrap_of(error, (2,))[15] == 0xC0
