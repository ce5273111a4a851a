"""Lines R1 to R6 and R16 to R25 of wire.md, section 6: the outside, and who keeps a packet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import SameSocket, SocketState, redirect
from tests.model.frames import (
    C_TAG,
    ethernet,
    gue_packet,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ipv4,
    tcp_packet,
    udp_packet,
)
from tests.unit.model.redirector_rows import AT, Row, ids, judge
from tests.unit.model.wire_document import checks
from tests.unit.model.world import CLIENT, CLIENT6, PROBER, STRANGER, VIP, VIP6, config, dip

A, B, C, D = (dip(number) for number in range(1, 5))
SYN, RST, ACK = 0x02, 0x04, 0x10
FORWARD_SYN = 0x08
OPTIONS = b"\x01\x01\x01\x00"

DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=ACK, payload=b"data")
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
ECHO = icmp_packet(CLIENT, VIP)
DATA6 = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=ACK, payload=b"data")
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=b"question")
ECHO6 = icmp_packet(CLIENT6, VIP6)
ERROR = icmp_error(STRANGER, tcp_packet(VIP, 80, CLIENT, 40000))
ERROR6 = icmp_error(CLIENT6 + 9, tcp_packet(VIP6, 443, CLIENT6, 40000))
UDP_ERROR = icmp_error(STRANGER, udp_packet(VIP, 53, CLIENT, 40000))
UDP_ERROR6 = icmp_error(CLIENT6 + 9, udp_packet(VIP6, 53, CLIENT6, 40000))
GOOD = gue_packet(A, B, DATA, [C])
GOOD6 = gue_packet(A, B, DATA6, [C])


def _tcp(flags: int) -> bytes:
    return tcp_packet(CLIENT, 40000, VIP, 80, flags=flags)


def _tcp_answer(port: int) -> bytes:
    return tcp_packet(VIP, port, CLIENT, 40000, flags=ACK)


def _from_port(port: int) -> bytes:
    return tcp_packet(CLIENT, port, VIP, 80, flags=ACK)


def _from_port6(port: int) -> bytes:
    return tcp_packet(CLIENT6, port, VIP6, 443, flags=ACK)


def _tcp6(flags: int) -> bytes:
    return tcp_packet(CLIENT6, 40000, VIP6, 443, flags=flags)


ROWS = (
    Row("R1", "nothing", b""),
    Row("R1", "41 bytes", GOOD[:27]),
    Row("R1", "IPv6", GOOD, kind=0x86DD),
    Row("R1", "VLAN", b"\x00\x05\x08\x00" + GOOD, kind=0x8100),
    Row("R1", "VLAN, by its name", ethernet(GOOD, tags=[C_TAG])[14:], kind=0x8100),
    Row("R1", "version 5", gue_packet(A, B, DATA, version=5)),
    Row("R1", "options", gue_packet(A, B, DATA, options=OPTIONS)),
    Row("R1", "first fragment", gue_packet(A, B, DATA, fragment=0x2000)),
    Row("R1", "later fragment", gue_packet(A, B, DATA, fragment=0x0001)),
    Row("R1", "a far fragment", gue_packet(A, B, DATA, fragment=0x1000)),
    Row("R1", "TCP", ethernet(tcp_packet(A, 1, B, 6080))[14:] + bytes(20)),
    Row("R1", "another DIP", gue_packet(A, C, DATA)),
    Row("R1", "another port", gue_packet(A, B, DATA, gue_port=6081)),
    Row("R1", "a client's packet", DATA),
    Row("R2", "total length 35", gue_packet(A, B, DATA, total_length=35, udp_length=15)),
    Row("R2", "longer than the frame", GOOD[:-1]),
    Row("R2", "UDP length too short", gue_packet(A, B, DATA, udp_length=16 + len(DATA) - 1)),
    Row("R2", "UDP length too long", gue_packet(A, B, DATA, udp_length=16 + len(DATA) + 1)),
    Row("R2", "UDP checksum", gue_packet(A, B, DATA, udp_checksum=0xFFFF)),
    Row("R2", "no room for GUE", GOOD[:28]),
    Row("R2", "before the source", gue_packet(STRANGER, B, DATA, udp_checksum=1)),
    Row("R3", "variant 1", gue_packet(A, B, DATA, variant=1)),
    Row("R3", "variant 2", gue_packet(A, B, DATA, variant=2)),
    Row("R3", "control message", gue_packet(A, B, DATA, control=1)),
    Row("R3", "GUE flags", gue_packet(A, B, DATA, gue_flags=0x0001)),
    Row("R3", "GUE flags, other byte", gue_packet(A, B, DATA, gue_flags=0x8000)),
    Row("R3", "private version", gue_packet(A, B, DATA, private_version=1)),
    Row("R3", "last_hop_gre", gue_packet(A, B, DATA, private_flags=0x04)),
    Row("R3", "flag 0x02", gue_packet(A, B, DATA, private_flags=0x02)),
    Row("R3", "flag 0x01", gue_packet(A, B, DATA, private_flags=0x01)),
    Row("R3", "reserved", gue_packet(A, B, DATA, reserved=1)),
    Row("R3", "four hops", gue_packet(A, B, DATA, [C, D, C, D])),
    Row("R3", "hlen too small", gue_packet(A, B, DATA, [C], hlen=1)),
    Row("R3", "hlen too large", gue_packet(A, B, DATA, [C], hlen=3)),
    Row("R3", "hlen 0", gue_packet(A, B, DATA, hlen=0)),
    Row("R3", "next_hop behind the list", gue_packet(A, B, DATA, [C], next_hop=2)),
    Row("R3", "list longer than the packet", gue_packet(A, B, b"", hop_count=1)),
    Row("R3", "proto 0", gue_packet(A, B, DATA, proto=0)),
    Row("R3", "proto 17", gue_packet(A, B, DATA, proto=17)),
    Row("R3", "before the source", gue_packet(STRANGER, B, DATA, reserved=1)),
    Row("R4", "a stranger", gue_packet(STRANGER, B, DATA)),
    Row("R4", "a VIP", gue_packet(VIP, B, DATA)),
    Row("R4", "before the loop", gue_packet(STRANGER, B, DATA, [B])),
    Row("R5", "next", gue_packet(A, B, DATA, [B])),
    Row("R5", "last", gue_packet(A, B, DATA, [C, B])),
    Row("R5", "before an unknown hop", gue_packet(A, B, DATA, [STRANGER, B])),
    Row("R5", "before the inner packet", gue_packet(A, B, b"", [B], proto=41)),
    Row("R6", "next", gue_packet(A, B, DATA, [STRANGER])),
    Row("R6", "last", gue_packet(A, B, DATA, [C, STRANGER])),
    Row("R6", "a prober", gue_packet(A, B, DATA, [PROBER])),
    Row("R6", "before the inner packet", gue_packet(A, B, b"", [STRANGER], proto=41)),
    Row("R16", "no list", gue_packet(A, B, DATA)),
    Row("R16", "end of the list", gue_packet(A, B, DATA, [C, D], next_hop=2)),
    Row("R16", "own DIP behind", gue_packet(A, B, DATA, [B], next_hop=1)),
    Row("R16", "stranger behind", gue_packet(A, B, DATA, [STRANGER], next_hop=1)),
    Row(
        "R16",
        "DF and the reserved bit, inside and out",
        gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:], fragment=0xC000), fragment=0xC000),
    ),
    Row("R16", "from itself", gue_packet(B, B, DATA)),
    Row("R16", "a prober's SYN", gue_packet(PROBER, B, _tcp(SYN))),
    Row("R16", "SYN under forward_syn", gue_packet(A, B, _tcp(SYN), private_flags=FORWARD_SYN)),
    Row("R16", "UDP", gue_packet(A, B, QUERY)),
    Row("R16", "echo", gue_packet(A, B, ECHO)),
    Row("R16", "a service that is none", gue_packet(A, B, tcp_packet(CLIENT, 1, VIP, 4444))),
    Row("R16", "wrong outer checksum", gue_packet(A, B, DATA, outer_checksum=0xBEEF)),
    Row("R16", "IPv6", gue_packet(A, B, DATA6)),
    Row("R16", "UDP over IPv6", gue_packet(A, B, QUERY6, [C], next_hop=1)),
    Row("R16", "echo over IPv6", gue_packet(A, B, ECHO6)),
    Row("R16", "options", gue_packet(A, B, tcp_packet(CLIENT, 1, VIP, 80, options=OPTIONS))),
    Row(
        "R16",
        "a header",
        gue_packet(A, B, tcp_packet(CLIENT6, 1, VIP6, 443, headers=[hop_by_hop()])),
    ),
    Row("R16", "an error", gue_packet(A, B, ERROR)),
    Row("R16", "an error over IPv6", gue_packet(A, B, ERROR6)),
    Row(
        "R16",
        "an error about no service",
        gue_packet(A, B, icmp_error(STRANGER, _tcp_answer(4444))),
    ),
    Row(
        "R16", "a first fragment", gue_packet(A, B, udp_packet(CLIENT, 1, VIP, 53, fragment=0x2000))
    ),
    Row("R17", "echo request", gue_packet(A, B, ECHO, [C])),
    Row("R17", "under forward_syn", gue_packet(A, B, ECHO, [C], private_flags=FORWARD_SYN)),
    Row("R17", "echo request over IPv6", gue_packet(A, B, ECHO6, [C])),
    Row("R18", "SYN over IPv6", gue_packet(A, B, _tcp6(SYN), [C])),
    Row("R18", "SYN", gue_packet(A, B, _tcp(SYN), [C])),
    Row("R18", "SYN and all but ACK and RST", gue_packet(A, B, _tcp(0xEB), [C])),
    Row("R18", "before the sockets", gue_packet(A, B, _tcp(SYN), [C]), SocketState.KNOWN),
    Row(
        "R19",
        "a port like an error's type",
        gue_packet(A, B, _from_port(0x0300), [C]),
        SocketState.KNOWN,
    ),
    Row(
        "R19",
        "a port like an error's type, IPv6",
        gue_packet(A, B, _from_port6(0x0180), [C]),
        SocketState.KNOWN,
    ),
    Row(
        "R20",
        "a port like an error's type",
        gue_packet(A, B, _from_port(0x0B01), [C]),
        SocketState.LISTEN_COOKIE,
    ),
    Row("R19", "data over IPv6", GOOD6, SocketState.KNOWN),
    Row("R19", "data", GOOD, SocketState.KNOWN),
    Row("R19", "reset", gue_packet(A, B, _tcp(RST), [C]), SocketState.KNOWN),
    Row("R19", "SYN and ACK", gue_packet(A, B, _tcp(SYN | ACK), [C]), SocketState.KNOWN),
    Row("R19", "no flags", gue_packet(A, B, _tcp(0), [C]), SocketState.KNOWN),
    Row(
        "R19",
        "forward_syn is about a SYN",
        gue_packet(A, B, DATA, [C], private_flags=FORWARD_SYN),
        SocketState.KNOWN,
    ),
    Row("R20", "cookie over IPv6", GOOD6, SocketState.LISTEN_COOKIE),
    Row("R20", "cookie", GOOD, SocketState.LISTEN_COOKIE),
    Row("R20", "with FIN", gue_packet(A, B, _tcp(ACK | 1), [C]), SocketState.LISTEN_COOKIE),
    Row("R21", "connected", gue_packet(A, B, QUERY, [C]), SocketState.UDP_CONNECTED),
    Row("R21", "connected, IPv6", gue_packet(A, B, QUERY6, [C]), SocketState.UDP_CONNECTED),
    Row("R22", "TCP", gue_packet(A, B, ERROR, [C]), SocketState.KNOWN),
    Row("R22", "TCP over IPv6", gue_packet(A, B, ERROR6, [C]), SocketState.KNOWN),
    Row("R22", "UDP", gue_packet(A, B, UDP_ERROR, [C]), SocketState.UDP_CONNECTED),
    Row("R22", "UDP over IPv6", gue_packet(A, B, UDP_ERROR6, [C]), SocketState.UDP_CONNECTED),
    Row("R23", "no entry, IPv6", GOOD6, config=config(2, no_entry=frozenset({3}))),
    Row("R23", "no entry", GOOD, config=config(2, no_entry=frozenset({3}))),
    Row("R23", "before too big", GOOD, config=config(2, mtu=83, no_entry=frozenset({3}))),
    Row("R24", "1 byte over", GOOD, config=config(2, mtu=len(GOOD) - 1)),
    Row("R24", "1 byte over, IPv6", GOOD6, config=config(2, mtu=len(GOOD6) - 1)),
    Row("R25", "IPv6", GOOD6, config=config(2, mtu=len(GOOD6))),
    Row("R25", "UDP over IPv6", gue_packet(A, B, QUERY6, [C]), SocketState.UDP_UNCONNECTED),
    Row("R25", "error, no socket", gue_packet(A, B, ERROR, [C])),
    Row("R25", "error, listening", gue_packet(A, B, ERROR, [C]), SocketState.LISTEN),
    Row("R25", "error, cookie", gue_packet(A, B, ERROR6, [C]), SocketState.LISTEN_COOKIE),
    Row("R25", "UDP error", gue_packet(A, B, UDP_ERROR6, [C]), SocketState.UDP_UNCONNECTED),
    Row(
        "R25",
        "the embedded SYN is none",
        gue_packet(A, B, icmp_error(STRANGER, tcp_packet(VIP, 80, CLIENT, 1, flags=SYN)), [C]),
    ),
    Row("R25", "fits to the byte", GOOD, config=config(2, mtu=len(GOOD))),
    Row("R25", "padding is not counted", GOOD + bytes(9), config=config(2, mtu=len(GOOD))),
    Row("R25", "unknown MAC", GOOD, config=config(2, no_mac=frozenset({3}))),
    Row("R25", "last of three hops", gue_packet(A, B, DATA, [C, D, C], next_hop=2)),
    Row("R25", "own DIP behind", gue_packet(A, B, DATA, [B, C], next_hop=1)),
    Row("R25", "entry of a hop after the next", gue_packet(A, B, DATA, [C, D]), config=AT),
    Row("R25", "listening", GOOD, SocketState.LISTEN),
    Row("R25", "no ACK", gue_packet(A, B, _tcp(1), [C]), SocketState.LISTEN_COOKIE),
    Row("R25", "ACK and RST", gue_packet(A, B, _tcp(ACK | RST), [C]), SocketState.LISTEN_COOKIE),
    Row("R25", "ACK and SYN", gue_packet(A, B, _tcp(ACK | SYN), [C]), SocketState.LISTEN_COOKIE),
    Row("R25", "SYN and RST", gue_packet(A, B, _tcp(SYN | RST), [C])),
    Row("R25", "SYN and ACK", gue_packet(A, B, _tcp(SYN | ACK), [C])),
    Row("R25", "UDP", gue_packet(A, B, QUERY, [C])),
    Row("R25", "unconnected", gue_packet(A, B, QUERY, [C]), SocketState.UDP_UNCONNECTED),
    Row(
        "R25",
        "SYN under forward_syn",
        gue_packet(A, B, _tcp(SYN), [C], private_flags=FORWARD_SYN),
        SocketState.KNOWN,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_line(row: Row) -> None:
    judge(row)


def test_every_line_has_a_row() -> None:
    inner = {f"R{number}" for number in range(7, 16)}
    assert {row.line for row in ROWS} == {line for line in checks(6) if line[0] == "R"} - inner


@pytest.mark.parametrize("line", sorted({row.line for row in ROWS}))
def test_frames_under_14_bytes_are_never_gue(line: str) -> None:
    packet = next(row.packet for row in ROWS if row.line == line)
    result = redirect(ethernet(packet)[:13], AT, SameSocket())
    assert (result.verdict, result.counter) == ("ok", "ok_not_gue")


class _Unasked:
    """An oracle that nobody may ask."""

    def lookup(self, *_: object) -> SocketState:
        raise AssertionError("the sockets were asked")


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.line[1:] not in {"19", "20", "21", "22", "23", "24", "25"}],
    ids=lambda row: f"{row.line}: {row.name}",
)
def test_sockets_are_asked_only_when_they_decide(row: Row) -> None:
    redirect(ethernet(row.packet, kind=row.kind), row.config, _Unasked())


def test_sockets_are_asked_with_the_inner_flow() -> None:
    asked: list[tuple[object, ...]] = []

    class Recorder:
        def lookup(self, *flow: object) -> SocketState:
            asked.append(flow)
            return SocketState.NONE

    for inner in (DATA, QUERY, DATA6, QUERY6, ERROR, UDP_ERROR, ERROR6, UDP_ERROR6):
        redirect(ethernet(gue_packet(A, B, inner, [C])), AT, Recorder())
    tcp, udp = (6, CLIENT, 40000, VIP, 80), (17, CLIENT, 40000, VIP, 53)
    tcp6, udp6 = (6, CLIENT6, 40000, VIP6, 443), (17, CLIENT6, 40000, VIP6, 53)
    assert asked == [tcp, udp, tcp6, udp6, tcp, udp, tcp6, udp6]


def test_a_vip_is_an_address_of_any_service() -> None:
    assert redirect(ethernet(GOOD), AT, SameSocket()).counter == "pass_on"
    without = replace(AT, services=())
    assert redirect(ethernet(GOOD), without, SameSocket()).counter == "drop_not_vip"
