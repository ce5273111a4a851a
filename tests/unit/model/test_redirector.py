"""Every line of wire.md, section 6: what applies, and which of two lines applies first."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.model import Config, SameSocket, SocketState, redirect
from tests.model.frames import ethernet, gue_packet, icmp_packet, ipv4, tcp_packet, udp_packet
from tests.unit.model.wire_document import checks
from tests.unit.model.world import CLIENT, NO_VIP, PROBER, STRANGER, VIP, config, dip

CHECKS = checks(6)
AT = config(2)
A, B, C, D = (dip(number) for number in range(1, 5))
SYN, RST, ACK = 0x02, 0x04, 0x10
FORWARD_SYN = 0x08
OPTIONS = b"\x01\x01\x01\x00"

DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=ACK, payload=b"data")
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
ECHO = icmp_packet(CLIENT, VIP)
GOOD = gue_packet(A, B, DATA, [C])


def _tcp(flags: int) -> bytes:
    return tcp_packet(CLIENT, 40000, VIP, 80, flags=flags)


def _patched(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with some bytes overwritten."""
    return packet[:at] + value + packet[at + len(value) :]


@dataclass(frozen=True)
class Row:
    """An outer packet, the line that decides about it, and what the sockets say."""

    line: str
    name: str
    packet: bytes
    state: SocketState = SocketState.NONE
    config: Config = AT
    kind: int = 0x0800


ROWS = (
    Row("R1", "nothing", b""),
    Row("R1", "41 bytes", GOOD[:27]),
    Row("R1", "IPv6", GOOD, kind=0x86DD),
    Row("R1", "VLAN", b"\x00\x05\x08\x00" + GOOD, kind=0x8100),
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
    Row("R5", "before IPv6", gue_packet(A, B, DATA, [B], proto=41)),
    Row("R6", "next", gue_packet(A, B, DATA, [STRANGER])),
    Row("R6", "last", gue_packet(A, B, DATA, [C, STRANGER])),
    Row("R6", "a prober", gue_packet(A, B, DATA, [PROBER])),
    Row("R6", "before IPv6", gue_packet(A, B, DATA, [STRANGER], proto=41)),
    Row("R7", "IPv6", gue_packet(A, B, bytes([0x60]) + bytes(39), proto=41)),
    Row("R7", "before the inner packet", gue_packet(A, B, b"", proto=41)),
    Row("R8", "nothing", gue_packet(A, B, b"")),
    Row("R8", "19 bytes", gue_packet(A, B, DATA[:19])),
    Row("R8", "version 6", gue_packet(A, B, _patched(DATA, 0, b"\x65"))),
    Row("R8", "ihl 4", gue_packet(A, B, _patched(DATA, 0, b"\x44"))),
    Row("R8", "total length one less", gue_packet(A, B, DATA + b"\x00")),
    Row("R8", "total length one more", gue_packet(A, B, DATA[:-1])),
    Row(
        "R8",
        "total length under ihl",
        gue_packet(A, B, ipv4(CLIENT, VIP, 6, bytes(3), ihl=6)),
    ),
    Row("R8", "before the VIP", gue_packet(A, B, ipv4(CLIENT, NO_VIP, 6, b"", ihl=6))),
    Row("R9", "no VIP", gue_packet(A, B, tcp_packet(CLIENT, 40000, NO_VIP, 80))),
    Row("R9", "a DIP", gue_packet(A, B, tcp_packet(CLIENT, 40000, B, 80))),
    Row("R9", "before options", gue_packet(A, B, ipv4(CLIENT, C, 6, DATA[20:], options=OPTIONS))),
    Row("R10", "options", gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:], options=OPTIONS))),
    Row(
        "R10",
        "before fragment",
        gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:], options=OPTIONS, fragment=0x2000)),
    ),
    Row("R11", "first", gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:], fragment=0x2000))),
    Row("R11", "later", gue_packet(A, B, ipv4(CLIENT, VIP, 17, QUERY[20:], fragment=0x0003))),
    Row("R11", "before short", gue_packet(A, B, ipv4(CLIENT, VIP, 6, b"", fragment=0x2000))),
    Row("R11", "far", gue_packet(A, B, ipv4(CLIENT, VIP, 17, QUERY[20:], fragment=0x1000))),
    Row("R12", "19 bytes of TCP", gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:39]))),
    Row("R12", "data offset 4", gue_packet(A, B, tcp_packet(CLIENT, 1, VIP, 80, data_offset=4))),
    Row("R12", "data offset 6", gue_packet(A, B, tcp_packet(CLIENT, 1, VIP, 80, data_offset=6))),
    Row("R12", "7 bytes of UDP", gue_packet(A, B, ipv4(CLIENT, VIP, 17, QUERY[20:27]))),
    Row("R12", "7 bytes of ICMP", gue_packet(A, B, ipv4(CLIENT, VIP, 1, ECHO[20:27]))),
    Row("R12", "short ICMP error", gue_packet(A, B, ipv4(CLIENT, VIP, 1, b"\x03\x04"))),
    Row("R12", "hops left", gue_packet(A, B, ipv4(CLIENT, VIP, 6, b""), [C])),
    Row("R13", "GRE", gue_packet(A, B, ipv4(CLIENT, VIP, 47, b""))),
    Row("R13", "echo reply", gue_packet(A, B, icmp_packet(CLIENT, VIP, kind=0))),
    Row("R13", "fragmentation needed", gue_packet(A, B, icmp_packet(CLIENT, VIP, kind=3, code=4))),
    Row("R13", "type 8, code 1", gue_packet(A, B, icmp_packet(CLIENT, VIP, code=1), [C])),
    Row("R14", "no list", gue_packet(A, B, DATA)),
    Row("R14", "end of the list", gue_packet(A, B, DATA, [C, D], next_hop=2)),
    Row("R14", "own DIP behind", gue_packet(A, B, DATA, [B], next_hop=1)),
    Row("R14", "stranger behind", gue_packet(A, B, DATA, [STRANGER], next_hop=1)),
    Row(
        "R14",
        "DF and the reserved bit, inside and out",
        gue_packet(A, B, ipv4(CLIENT, VIP, 6, DATA[20:], fragment=0xC000), fragment=0xC000),
    ),
    Row("R14", "from itself", gue_packet(B, B, DATA)),
    Row("R14", "a prober's SYN", gue_packet(PROBER, B, _tcp(SYN))),
    Row("R14", "SYN under forward_syn", gue_packet(A, B, _tcp(SYN), private_flags=FORWARD_SYN)),
    Row("R14", "UDP", gue_packet(A, B, QUERY)),
    Row("R14", "echo", gue_packet(A, B, ECHO)),
    Row("R14", "a service that is none", gue_packet(A, B, tcp_packet(CLIENT, 1, VIP, 4444))),
    Row("R14", "wrong outer checksum", gue_packet(A, B, DATA, outer_checksum=0xBEEF)),
    Row("R15", "echo request", gue_packet(A, B, ECHO, [C])),
    Row("R15", "under forward_syn", gue_packet(A, B, ECHO, [C], private_flags=FORWARD_SYN)),
    Row("R16", "SYN", gue_packet(A, B, _tcp(SYN), [C])),
    Row("R16", "SYN and all but ACK and RST", gue_packet(A, B, _tcp(0xEB), [C])),
    Row("R16", "before the sockets", gue_packet(A, B, _tcp(SYN), [C]), SocketState.KNOWN),
    Row("R17", "data", GOOD, SocketState.KNOWN),
    Row("R17", "reset", gue_packet(A, B, _tcp(RST), [C]), SocketState.KNOWN),
    Row("R17", "SYN and ACK", gue_packet(A, B, _tcp(SYN | ACK), [C]), SocketState.KNOWN),
    Row("R17", "no flags", gue_packet(A, B, _tcp(0), [C]), SocketState.KNOWN),
    Row(
        "R17",
        "forward_syn is about a SYN",
        gue_packet(A, B, DATA, [C], private_flags=FORWARD_SYN),
        SocketState.KNOWN,
    ),
    Row("R18", "cookie", GOOD, SocketState.LISTEN_COOKIE),
    Row("R18", "with FIN", gue_packet(A, B, _tcp(ACK | 1), [C]), SocketState.LISTEN_COOKIE),
    Row("R19", "connected", gue_packet(A, B, QUERY, [C]), SocketState.UDP_CONNECTED),
    Row("R20", "no entry", GOOD, config=config(2, no_entry=frozenset({3}))),
    Row("R20", "before too big", GOOD, config=config(2, mtu=83, no_entry=frozenset({3}))),
    Row("R21", "1 byte over", GOOD, config=config(2, mtu=len(GOOD) - 1)),
    Row("R22", "fits to the byte", GOOD, config=config(2, mtu=len(GOOD))),
    Row("R22", "padding is not counted", GOOD + bytes(9), config=config(2, mtu=len(GOOD))),
    Row("R22", "unknown MAC", GOOD, config=config(2, no_mac=frozenset({3}))),
    Row("R22", "last of three hops", gue_packet(A, B, DATA, [C, D, C], next_hop=2)),
    Row("R22", "own DIP behind", gue_packet(A, B, DATA, [B, C], next_hop=1)),
    Row("R22", "entry of a hop after the next", gue_packet(A, B, DATA, [C, D]), config=AT),
    Row("R22", "listening", GOOD, SocketState.LISTEN),
    Row("R22", "no ACK", gue_packet(A, B, _tcp(1), [C]), SocketState.LISTEN_COOKIE),
    Row("R22", "ACK and RST", gue_packet(A, B, _tcp(ACK | RST), [C]), SocketState.LISTEN_COOKIE),
    Row("R22", "ACK and SYN", gue_packet(A, B, _tcp(ACK | SYN), [C]), SocketState.LISTEN_COOKIE),
    Row("R22", "SYN and RST", gue_packet(A, B, _tcp(SYN | RST), [C])),
    Row("R22", "SYN and ACK", gue_packet(A, B, _tcp(SYN | ACK), [C])),
    Row("R22", "UDP", gue_packet(A, B, QUERY, [C])),
    Row("R22", "unconnected", gue_packet(A, B, QUERY, [C]), SocketState.UDP_UNCONNECTED),
    Row(
        "R22",
        "SYN under forward_syn",
        gue_packet(A, B, _tcp(SYN), [C], private_flags=FORWARD_SYN),
        SocketState.KNOWN,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.line}: {row.name}" for row in ROWS])
def test_line(row: Row) -> None:
    check = CHECKS[row.line]
    frame = ethernet(row.packet, kind=row.kind)
    result = redirect(frame, row.config, SameSocket(row.state))
    assert (result.verdict, result.counter, result.service) == (check.verdict, check.counter, None)
    if result.verdict == "drop":
        assert result.frame is None
    else:
        assert (result.frame == frame) == (row.line == "R1")


def test_every_line_has_a_row() -> None:
    assert {row.line for row in ROWS} == set(CHECKS)


@pytest.mark.parametrize("line", sorted(set(CHECKS)))
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
    [row for row in ROWS if row.line not in {"R17", "R18", "R19", "R20", "R21", "R22"}],
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

    redirect(ethernet(GOOD), AT, Recorder())
    redirect(ethernet(gue_packet(A, B, QUERY, [C])), AT, Recorder())
    assert asked == [(6, CLIENT, 40000, VIP, 80), (17, CLIENT, 40000, VIP, 53)]
