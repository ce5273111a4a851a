"""Lines R1 to R6 and R16 to R25 of wire.md, section 6: the outside, and who keeps a packet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from tests.model import Address, SocketState
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
    ethernet,
    gue_packet,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ipv4,
    tcp_packet,
    udp_packet,
)
from tests.packets.out import both, has
from tests.packets.row import Row, redirector
from tests.packets.world import (
    ACK,
    ANSWER,
    ANSWER6,
    AT_HOP,
    CLIENT,
    CLIENT6,
    DATA,
    DATA6,
    FIN,
    NOPS,
    PROBER,
    REPLY,
    REPLY6,
    ROUTER,
    ROUTER6,
    RST,
    STRANGER,
    SYN,
    UDP,
    UDP6,
    VIP,
    VIP6,
    config,
    dip,
    mac,
    patched,
    tcp,
)

A, B, C, D = (dip(number) for number in range(1, 5))
FORWARD_SYN = 0x08
WAITING, REQUEST = SocketState.TIME_WAIT, SocketState.REQUEST
OTHER_NUMBERS = SocketState.OTHER_NUMBERS
KNOWN, LISTEN, COOKIE = SocketState.KNOWN, SocketState.LISTEN, SocketState.LISTEN_COOKIE
CONNECTED, UNCONNECTED = SocketState.UDP_CONNECTED, SocketState.UDP_UNCONNECTED
PADDING = b"\xaa" * 7
ECHO, ECHO6 = icmp_packet(CLIENT, VIP), icmp_packet(CLIENT6, VIP6)
ERROR, ERROR6 = icmp_error(ROUTER, ANSWER), icmp_error(ROUTER6, ANSWER6)
UDP_ERROR, UDP_ERROR6 = icmp_error(ROUTER, REPLY), icmp_error(ROUTER6, REPLY6)


def gue(inner: bytes = DATA, *hops: IPv4Address, **fields: Any) -> bytes:
    """What server A sends to this one, B."""
    return gue_packet(A, B, inner, hops, **fields)


GOOD, GOOD6 = gue(DATA, C), gue(DATA6, C)
NO_ENTRY = config(2, no_entry=frozenset({3}))
UNKNOWN_MAC = config(2, no_mac=frozenset({3, 4}))

TUNNEL_ROWS = (
    redirector("R1 nothing", b""),
    redirector("R1 41 bytes", GOOD[:27]),
    redirector("R1 ARP", bytes(46), kind=0x0806),
    redirector("R1 IPv6", GOOD, kind=0x86DD),
    redirector("R1 a client's packet of IPv6", DATA6, kind=0x86DD),
    redirector("R1 VLAN", b"\x00\x05\x08\x00" + GOOD, kind=0x8100),
    redirector("R1 VLAN, by its name", ethernet(GOOD, tags=[C_TAG])[14:], kind=0x8100),
    redirector("R1 two tags, of which one stays in the frame",
               ethernet(GOOD, tags=[S_TAG, C_TAG])[14:], kind=0x88A8),
    redirector("R1 version 5", gue(version=5)),
    redirector("R1 outer options", gue(options=NOPS)),
    redirector("R1 first fragment", gue(fragment=0x2000)),
    redirector("R1 later fragment", gue(fragment=0x0001)),
    redirector("R1 a far fragment", gue(fragment=0x1000)),
    redirector("R1 TCP", tcp_packet(A, 1, B, 6080) + bytes(20)),
    redirector("R1 another DIP", gue_packet(A, C, DATA)),
    redirector("R1 another port", gue(gue_port=6081)),
    redirector("R1 a client's packet", DATA),
    redirector("R2 total length 35", gue(total_length=35, udp_length=15)),
    redirector("R2 total length past the end", GOOD[:-1]),
    redirector("R2 UDP length too short", gue(udp_length=16 + len(DATA) - 1)),
    redirector("R2 UDP length too long", gue(udp_length=16 + len(DATA) + 1)),
    redirector("R2 UDP checksum", gue(udp_checksum=0xFFFF)),
    redirector("R2 the frame ends before GUE", GOOD[:28]),
    redirector("R2 before the source", gue_packet(STRANGER, B, DATA, udp_checksum=1)),
    redirector("R3 variant 1", gue(variant=1)),
    redirector("R3 variant 2", gue(variant=2)),
    redirector("R3 control message", gue(control=1)),
    redirector("R3 GUE flags", gue(gue_flags=0x8000)),
    redirector("R3 GUE flags, other byte", gue(gue_flags=0x0001)),
    redirector("R3 private version", gue(private_version=1)),
    redirector("R3 last_hop_gre", gue(private_flags=0x04)),
    redirector("R3 flag 0x02", gue(private_flags=0x02)),
    redirector("R3 flag 0x01", gue(private_flags=0x01)),
    redirector("R3 reserved", gue(reserved=1)),
    redirector("R3 four hops", gue(DATA, C, D, C, D)),
    redirector("R3 hlen too small", gue(DATA, C, hlen=1)),
    redirector("R3 hlen too large", gue(DATA, C, hlen=3)),
    redirector("R3 hlen 0", gue(hlen=0)),
    redirector("R3 next_hop beyond the list", gue(DATA, C, next_hop=2)),
    redirector("R3 next_hop beyond three hops", gue(DATA, A, C, D, next_hop=4)),
    redirector("R3 list longer than the packet", gue(b"", hop_count=1)),
    redirector("R3 proto 0", gue(proto=0)),
    redirector("R3 proto 17", gue(proto=17)),
    redirector("R3 before the source", gue_packet(STRANGER, B, DATA, reserved=1)),
    redirector("R4 unknown source", gue_packet(STRANGER, B, DATA)),
    redirector("R4 a VIP", gue_packet(VIP, B, DATA)),
    redirector("R4 before the loop", gue_packet(STRANGER, B, DATA, [B])),
    redirector("R5 next", gue(DATA, B)),
    redirector("R5 loop", gue(DATA, C, B)),
    redirector("R5 loop, IPv6", gue(DATA6, C, B)),
    redirector("R5 loop at the third", gue(DATA, C, D, B)),
    redirector("R5 before an unknown hop", gue(DATA, STRANGER, B)),
    redirector("R5 before the inner packet", gue(b"", B, proto=41)),
    redirector("R6 next", gue(DATA, STRANGER)),
    redirector("R6 unknown hop", gue(DATA, C, STRANGER)),
    redirector("R6 unknown third hop", gue(DATA, C, D, STRANGER)),
    redirector("R6 a prober is no hop", gue(DATA, PROBER)),
    redirector("R6 hop 0.0.0.0", gue(DATA, IPv4Address(0))),
    redirector("R6 a hop that is not known but has an entry", GOOD,
               config=replace(AT_HOP, known=frozenset({A, B, D}))),
    redirector("R6 before the inner packet", gue(b"", STRANGER, proto=41)),
)  # fmt: skip

LAST_ROWS = (
    redirector("R16 last hop", gue()),
    redirector("R16 last hop, IPv6", gue(DATA6)),
    redirector("R16 last of two", gue(DATA, C, next_hop=1)),
    redirector("R16 last of three", gue(DATA, C, D, next_hop=2)),
    redirector("R16 last of four", gue(DATA, A, C, D, next_hop=3)),
    redirector("R16 last of four, IPv6", gue(DATA6, A, C, D, next_hop=3)),
    redirector("R16 own DIP behind", gue(DATA, B, next_hop=1)),
    redirector("R16 own DIP behind, first of two", gue(DATA, B, C, next_hop=2)),
    redirector("R16 stranger behind", gue(DATA, STRANGER, next_hop=1)),
    redirector("R16 DF and the reserved bit, inside and out",
               gue(ipv4(CLIENT, VIP, 6, DATA[20:], fragment=0xC000), fragment=0xC000)),
    redirector("R16 a reserved bit is no fragment", gue(fragment=0x8000)),
    redirector("R16 from itself", gue_packet(B, B, DATA)),
    redirector("R16 a prober's SYN", gue_packet(PROBER, B, tcp(SYN))),
    redirector("R16 a prober's SYN, IPv6", gue_packet(PROBER, B, tcp(SYN, vip=VIP6))),
    redirector("R16 SYN under forward_syn", gue(tcp(SYN), private_flags=FORWARD_SYN)),
    redirector("R16 UDP", gue(UDP)),
    redirector("R16 echo", gue(ECHO)),
    redirector("R16 a port without a service", gue(tcp_packet(CLIENT, 1, VIP, 4444))),
    redirector("R16 wrong outer checksum", gue(outer_checksum=0xBEEF)),
    redirector("R16 UDP over IPv6", gue(UDP6)),
    redirector("R16 echo over IPv6", gue(ECHO6)),
    redirector("R16 options", gue(tcp(options=NOPS))),
    redirector("R16 a header", gue(tcp(vip=VIP6, headers=[hop_by_hop()]))),
    redirector("R16 options and padding", gue(tcp(options=NOPS), A, C, D, next_hop=3) + PADDING),
    redirector("R16 a header and padding",
               gue(tcp(vip=VIP6, headers=[hop_by_hop()]), A, C, D, next_hop=3) + PADDING),
    redirector("R16 padding stays", gue() + PADDING),
    redirector("R16 padding stays, IPv6", gue(DATA6) + PADDING),
    redirector("R16 an error", gue(ERROR)),
    redirector("R16 an error over IPv6", gue(ERROR6)),
    redirector("R16 an error about no service",
               gue(icmp_error(ROUTER, tcp_packet(VIP, 4444, CLIENT, 40000, flags=ACK)))),
    redirector("R16 a first fragment", gue(udp_packet(CLIENT, 1, VIP, 53, fragment=0x2000))),
    redirector("R16 nothing is too big", gue(tcp(payload=bytes(1425)))),
    redirector("R17 echo", gue(ECHO, C)),
    redirector("R17 under forward_syn", gue(ECHO, C, private_flags=FORWARD_SYN)),
    redirector("R17 echo over IPv6", gue(ECHO6, C)),
)  # fmt: skip

SOCKET_ROWS = (
    redirector("R18 SYN over IPv6", gue(tcp(SYN, vip=VIP6), C)),
    redirector("R18 SYN", gue(tcp(SYN), C)),
    redirector("R18 SYN, three hops left", gue(tcp(SYN), A, C, D)),
    redirector("R18 SYN with ECE and CWR", gue(tcp(SYN | 0xC0), C)),
    redirector("R18 SYN and FIN", gue(tcp(SYN | FIN), C)),
    redirector("R18 SYN and all but ACK and RST", gue(tcp(0xEB), C)),
    redirector("R18 before the sockets", gue(tcp(SYN), C), KNOWN),
    redirector("R18 before TIME-WAIT", gue(tcp(SYN), C), WAITING),
    redirector("R19 a port like an error's type", gue(tcp(ACK, 0x0300), C), KNOWN),
    redirector("R19 a port like an error's type, IPv6", gue(tcp(ACK, 0x0180, VIP6), C), KNOWN),
    redirector("R20 a port like an error's type", gue(tcp(ACK, 0x0B01), C), COOKIE),
    redirector("R19 data over IPv6", GOOD6, KNOWN),
    redirector("R19 data", GOOD, KNOWN),
    redirector("R19 reset", gue(tcp(RST), C), KNOWN),
    redirector("R19 reset of TIME-WAIT", gue(tcp(RST), C), WAITING),
    redirector("R19 reset of TIME-WAIT, IPv6", gue(tcp(RST | ACK, vip=VIP6), C), WAITING),
    redirector("R19 SYN and ACK", gue(tcp(SYN | ACK), C), KNOWN),
    redirector("R19 no flags", gue(tcp(0), C), KNOWN),
    redirector("R19 forward_syn is about a SYN", gue(DATA, C, private_flags=FORWARD_SYN), KNOWN),
    redirector("R19 a request whose SYN nobody remembers", GOOD, REQUEST),
    redirector("R20 cookie over IPv6", GOOD6, COOKIE),
    redirector("R20 cookie", GOOD, COOKIE),
    redirector("R20 with FIN", gue(tcp(ACK | FIN), C), COOKIE),
    redirector("R21 connected", gue(UDP, C), CONNECTED),
    redirector("R21 connected, IPv6", gue(UDP6, C), CONNECTED),
    redirector("R22 TCP", gue(ERROR, C), KNOWN),
    redirector("R22 TCP over IPv6", gue(ERROR6, C), KNOWN),
    redirector("R22 TCP, whatever its numbers", gue(ERROR, C), OTHER_NUMBERS),
    redirector("R22 UDP", gue(UDP_ERROR, C), CONNECTED),
    redirector("R22 UDP over IPv6", gue(UDP_ERROR6, C), CONNECTED),
)  # fmt: skip

PASS_ROWS = (
    redirector("R23 hop without entry", GOOD, config=NO_ENTRY),
    redirector("R23 hop without entry, IPv6", GOOD6, config=NO_ENTRY),
    redirector("R23 before too big", GOOD, config=config(2, mtu=83, no_entry=frozenset({3}))),
    redirector("R24 1 byte over", GOOD, config=config(2, mtu=len(GOOD) - 1)),
    redirector("R24 1 byte over, IPv6", GOOD6, config=config(2, mtu=len(GOOD6) - 1)),
    redirector("R24 too big", gue(tcp(payload=bytes(1425)), C)),
    redirector("R24 too big, IPv6", gue(tcp(vip=VIP6, payload=bytes(1401)), C)),
    redirector("R24 three hops too big", gue(tcp(payload=bytes(1413)), D, C, A)),
    redirector("R25 1,500 bytes fit", gue(tcp(payload=bytes(1420)), C)),
    redirector("R25 1,500 bytes fit, IPv6", gue(tcp(vip=VIP6, payload=bytes(1400)), C)),
    redirector("R25 three hops fit to the byte", gue(tcp(payload=bytes(1412)), D, C, A)),
    redirector("R25 IPv6", GOOD6, config=config(2, mtu=len(GOOD6))),
    redirector("R25 UDP over IPv6, unconnected", gue(UDP6, C), UNCONNECTED),
    redirector("R25 UDP over IPv6", gue(UDP6, C)),
    redirector("R25 error, no socket", gue(ERROR, C)),
    redirector("R25 error, listening", gue(ERROR, C), LISTEN),
    redirector("R25 error, cookie", gue(ERROR6, C), COOKIE),
    redirector("R25 UDP error", gue(UDP_ERROR6, C), UNCONNECTED),
    redirector("R25 an error about a SYN",
               gue(icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 1, flags=SYN)), C)),
    redirector("R25 fits to the byte", GOOD, config=config(2, mtu=len(GOOD))),
    redirector("R25 padding is not counted", GOOD + bytes(9), config=config(2, mtu=len(GOOD))),
    redirector("R25 last of three hops", gue(DATA, C, D, C, next_hop=2)),
    redirector("R25 own DIP behind", gue(DATA, B, C, next_hop=1)),
    redirector("R25 entry of a hop after the next", gue(DATA, C, D),
               config=config(2, no_entry=frozenset({4}))),
    redirector("R25 TIME-WAIT", GOOD, WAITING),
    redirector("R25 TIME-WAIT, IPv6", GOOD6, WAITING),
    redirector("R25 TIME-WAIT, FIN", gue(tcp(ACK | FIN), C), WAITING),
    redirector("R25 TIME-WAIT, SYN under forward_syn", gue(tcp(SYN), C, private_flags=FORWARD_SYN),
               WAITING),
    redirector("R25 TIME-WAIT, error", gue(ERROR, C), WAITING),
    redirector("R25 TIME-WAIT, error over IPv6", gue(ERROR6, C), WAITING),
    redirector("R25 listening", GOOD, LISTEN),
    redirector("R25 no ACK", gue(tcp(FIN), C), COOKIE),
    redirector("R25 ACK and RST", gue(tcp(ACK | RST), C), COOKIE),
    redirector("R25 ACK and SYN", gue(tcp(ACK | SYN), C), COOKIE),
    redirector("R25 SYN and RST", gue(tcp(SYN | RST), C)),
    redirector("R25 SYN and ACK", gue(tcp(SYN | ACK), C)),
    redirector("R25 UDP", gue(UDP, C)),
    redirector("R25 unconnected", gue(UDP, C), UNCONNECTED),
    redirector("R25 SYN under forward_syn", gue(tcp(SYN), C, private_flags=FORWARD_SYN), KNOWN),
    redirector("R25 options", gue(tcp(options=NOPS), C)),
    redirector("R25 a header", gue(tcp(vip=VIP6, headers=[hop_by_hop()]), C)),
)  # fmt: skip


def way_rows(inner: bytes) -> Iterator[Row]:
    """What passing on changes, and that it changes nothing else, padding included."""
    v = f", IPv{inner[0] >> 4}"
    other: dict[str, Any] = {"source_port": 0xABCD, "tos": 0x2C}

    def passed(hops: tuple[IPv4Address, ...], macs: bytes, next_hop: int, **fields: Any) -> bytes:
        packet = gue_packet(B, hops[next_hop - 1], inner, hops, next_hop=next_hop, **fields)
        return ethernet(packet, destination=macs[:6], source=macs[6:]) + PADDING

    yield redirector(f"R25 to the first hop{v}", gue(inner, C, D, **other) + PADDING,
                     out=passed((C, D), mac(3) + SERVER_MAC, 1, **other))  # fmt: skip
    yield redirector(f"R25 to the second hop{v}", gue(inner, C, D, next_hop=1, **other) + PADDING,
                     out=passed((C, D), mac(4) + SERVER_MAC, 2, **other))  # fmt: skip
    yield redirector(f"R25 to the first of three{v}", gue(inner, D, C, A) + PADDING,
                     out=passed((D, C, A), mac(4) + SERVER_MAC, 1))  # fmt: skip
    yield redirector(f"R25 to the third hop, MAC unknown{v}",
                     gue(inner, A, C, D, next_hop=2) + PADDING, config=UNKNOWN_MAC,
                     out=passed((A, C, D), ROUTER_MAC + SERVER_MAC, 3))  # fmt: skip
    for wrong in (0x0000, 0xFFFF, 0xBEEF, 7):
        yield redirector(f"R25 outer checksum {wrong:#x} is made right{v}",
                         gue(inner, C, outer_checksum=wrong) + PADDING,
                         out=passed((C,), mac(3) + SERVER_MAC, 1))  # fmt: skip


FORWARD_SYN_ROW = redirector(
    *("R25 forward_syn stays", gue(tcp(SYN), C, D, private_flags=FORWARD_SYN)),
    out=both(has(46, bytes([FORWARD_SYN, 0, 1, 2])), has(26, B.packed + C.packed)),
)


def ecn_rows(vip: Address) -> Iterator[Row]:
    """RFC 6040, figure 4, as section 6.3 picks from it: inner field, outer field, the inner after.

    None is "drop".
    """
    not_ect, ect_1, ect_0, ce = range(4)
    table: dict[int, dict[int, int | None]] = {
        not_ect: {not_ect: not_ect, ect_0: not_ect, ect_1: not_ect, ce: None},
        ect_0: {not_ect: ect_0, ect_0: ect_0, ect_1: ect_1, ce: ce},
        ect_1: {not_ect: ect_1, ect_0: ect_1, ect_1: ect_1, ce: ce},
        ce: {not_ect: ce, ect_0: ce, ect_1: ce, ce: ce},
    }
    kind = 0x0800 if vip.version == 4 else 0x86DD
    for inner, outers in table.items():
        for outer, after in outers.items():
            for dscp in (0, 0x2E << 2):
                name = f"{dscp | inner:#x} in {outer}, IPv{vip.version}"
                packet = gue(tcp(vip=vip, tos=dscp | inner), tos=outer)
                if after is None:
                    yield redirector(f"6.3 RFC 6040 {name}", packet, counter="drop_ecn")
                    continue
                out = ethernet(tcp(vip=vip, tos=dscp | after), kind=kind)
                yield redirector(f"R16 RFC 6040 {name}", packet, out=out)
    on_the_way = gue(tcp(vip=vip), C, tos=ce)
    yield redirector(f"R25 RFC 6040 CE on the way, IPv{vip.version}", on_the_way)


def wrong_sum_row() -> Row:
    """A wrong inner checksum stays wrong by as much, when CE is copied over ECT(0)."""
    before, after = tcp(tos=2), tcp(tos=3)
    sums = [int.from_bytes(packet[10:12], "big") for packet in (before, after)]
    wrong = sums[0] ^ 0x5A00
    out = patched(after, 10, ((wrong + sums[1] - sums[0]) % 0xFFFF).to_bytes(2, "big"))
    packet = gue(patched(before, 10, wrong.to_bytes(2, "big")), tos=3)
    return redirector("R16 RFC 6040, a wrong checksum stays as wrong", packet, out=ethernet(out))


ROWS = (
    *(*TUNNEL_ROWS, *LAST_ROWS, *SOCKET_ROWS, *PASS_ROWS),
    *(*way_rows(DATA), *way_rows(DATA6), FORWARD_SYN_ROW),
    *(*ecn_rows(VIP), *ecn_rows(VIP6), wrong_sum_row()),
)
