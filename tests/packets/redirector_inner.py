"""Lines R7 to R14 and J1 to J5 of wire.md, section 6: what may be taken out of its wrap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.model import Address
from tests.model.frames import (
    Extension,
    authentication,
    destination_options,
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
from tests.packets.redirector import CONNECTED, ECHO, KNOWN, A, B, C, gue
from tests.packets.row import redirector
from tests.packets.world import (
    ANSWER,
    ANSWER6,
    AT_HOP,
    CLIENT,
    CLIENT6,
    DATA,
    DATA6,
    NO_VIP,
    NO_VIP6,
    NOPS,
    ROUTER,
    ROUTER6,
    UDP,
    UDP6,
    VIP,
    VIP6,
    patched,
)

SEVEN = [routing()] * 7
SIX = [
    *(hop_by_hop(), routing(), destination_options(200), authentication(24), fragment_header()),
    destination_options(),
]
MALFORMED, TOO_MANY = "drop_inner_malformed", "drop_inner_ext_headers"
NOT_VIP = "drop_not_vip"


def in4(inner: bytes) -> bytes:
    """As IPv4, whatever its first bits are."""
    return gue(inner, proto=4)


def in6(inner: bytes) -> bytes:
    """As IPv6, whatever its first bits are."""
    return gue(inner, proto=41)


def data6(headers: list[Extension], *, cut: int | None = None) -> bytes:
    """An IPv6 packet, cut short with a payload length that fits."""
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=0x10, headers=headers)[:cut]
    return patched(packet, 4, (len(packet) - 40).to_bytes(2, "big"))


def about(embedded: bytes, to: Address | None = None, **fields: Any) -> bytes:
    """An error about a packet, to that packet's source by default, at its last hop."""
    version = to.version if to else embedded[0] >> 4
    router = ROUTER if version == 4 else ROUTER6
    return gue(icmp_error(router, embedded, destination=to, **fields))


def answer(port: int = 1, **fields: Any) -> bytes:
    """A packet from the VIP to a client's port."""
    return tcp_packet(VIP, 80, CLIENT, port, **fields)


def answer6(port: int = 1, **fields: Any) -> bytes:
    """The same of IPv6."""
    return tcp_packet(VIP6, 443, CLIENT6, port, **fields)


CUT6 = data6([routing()], cut=47)
IP_ROWS = (
    redirector("R7 nothing", in4(b"")),
    redirector("R7 19 bytes", in4(DATA[:19])),
    redirector("R7 version 6", in4(patched(DATA, 0, b"\x65"))),
    redirector("R7 IPv6", in4(DATA6)),
    redirector("R7 ihl 4", gue(patched(DATA, 0, b"\x44"))),
    redirector("R7 ihl beyond the packet", gue(patched(DATA, 0, b"\x4f"))),
    redirector("R7 total length", gue(DATA + b"\x00")),
    redirector("R7 total length one more", gue(DATA[:-1])),
    redirector("R7 total length under ihl", gue(ipv4(CLIENT, VIP, 6, bytes(3), ihl=6))),
    redirector("R7 before the VIP", gue(ipv4(CLIENT, NO_VIP, 6, b"", ihl=6))),
    redirector("R8 nothing", in6(b"")),
    redirector("R8 39 bytes", in6(DATA6[:39])),
    redirector("R8 version 4", in6(patched(DATA6, 0, b"\x46"))),
    redirector("R8 IPv4", in6(DATA)),
    redirector("R8 IPv4 of 80 bytes", in6(tcp_packet(CLIENT, 1, VIP, 80, payload=bytes(40)))),
    redirector("R8 payload length one less", gue(DATA6 + b"\x00")),
    redirector("R8 payload length one more", gue(DATA6[:-1])),
    redirector("R8 a jumbogram", gue(patched(DATA6, 4, b"\x00\x00"))),
    redirector("R8 before the VIP", gue(tcp_packet(CLIENT6, 1, NO_VIP6, 443)[:-1])),
    redirector("R9 no VIP", gue(tcp_packet(CLIENT, 40000, NO_VIP, 80)), counter=NOT_VIP),
    redirector("R9 no VIP, IPv6", gue(tcp_packet(CLIENT6, 40000, NO_VIP6, 443)), counter=NOT_VIP),
    redirector("R9 without services there is no VIP", gue(), config=replace(AT_HOP, services=()),
               counter=NOT_VIP),
    redirector("R9 a DIP", gue(tcp_packet(CLIENT, 40000, B, 80)), counter=NOT_VIP),
    redirector("R9 GUE in GUE", gue(gue_packet(A, B, DATA)), counter=NOT_VIP),
    redirector("R9 options", gue(ipv4(CLIENT, C, 6, DATA[20:], options=NOPS)), counter=NOT_VIP),
    redirector("R9 before too many headers",
               gue(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN)), counter=NOT_VIP),
    redirector("R9 before fragment of GRE", gue(ipv4(CLIENT, NO_VIP, 47, b"", fragment=0x2000)),
               counter=NOT_VIP),
    redirector("R10 nothing of it", gue(data6([routing()], cut=40)), counter=MALFORMED),
    redirector("R10 7 bytes of it", gue(CUT6), counter=MALFORMED),
    redirector("R10 2 bytes of the second",
               gue(ipv6(CLIENT6, VIP6, 6, b"", headers=[hop_by_hop(), Extension(60, b"\0")])),
               counter=MALFORMED),
    redirector("R10 padding is no part", gue(CUT6) + bytes(9), counter=MALFORMED),
    redirector("R10 padding is no header", gue(ipv6(CLIENT6, VIP6, 60, b"")) + bytes(8),
               counter=MALFORMED),
    redirector("R10 two fragment headers", gue(data6([fragment_header()] * 2)), counter=MALFORMED),
    redirector("R10 seven headers", gue(data6(SEVEN)), counter=TOO_MANY),
    redirector("R10 264 bytes", gue(data6([routing(264)])), counter=TOO_MANY),
    redirector("R10 264 bytes of two", gue(data6([routing(256), routing()])), counter=TOO_MANY),
    redirector("R16 six headers, 256 bytes", gue(data6(SIX))),
)  # fmt: skip

ICMP_FIRST6 = icmp_packet(CLIENT6, VIP6, headers=[fragment_header(more=True)])
UPPER_ROWS = (
    redirector("R11 first of GRE", gue(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x2000))),
    redirector("R11 later of GRE", gue(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x0001))),
    redirector("R11 first of ICMP", gue(icmp_packet(CLIENT, VIP, fragment=0x2000))),
    redirector("R11 later of ICMP", gue(icmp_packet(CLIENT, VIP, fragment=0x0001), C)),
    redirector("R11 later of ICMP, last hop", gue(icmp_packet(CLIENT, VIP, fragment=0x0001))),
    redirector("R11 an extension header's number in IPv4",
               gue(ipv4(CLIENT, VIP, 60, bytes(8), fragment=1))),
    redirector("R11 first, IPv6", gue(ICMP_FIRST6)),
    redirector("R11 later, IPv6",
               gue(ipv6(CLIENT6, VIP6, 58, bytes(8), headers=[fragment_header(3)]))),
    redirector("R13 19 bytes of TCP", gue(ipv4(CLIENT, VIP, 6, DATA[20:39]))),
    redirector("R13 19 bytes of TCP over IPv6", gue(ipv6(CLIENT6, VIP6, 6, DATA6[40:59]))),
    redirector("R13 19 bytes behind options",
               gue(ipv4(CLIENT, VIP, 6, DATA[20:39], options=NOPS))),
    redirector("R13 19 bytes behind a header", gue(data6([authentication()], cut=40 + 24 + 19))),
    redirector("R13 a header that ends behind the packet", gue(data6([routing(16)], cut=48))),
    redirector("R13 data offset 4", gue(tcp_packet(CLIENT, 1, VIP, 80, data_offset=4))),
    redirector("R13 data offset 4, IPv6", gue(tcp_packet(CLIENT6, 1, VIP6, 443, data_offset=4))),
    redirector("R13 data offset 6", gue(tcp_packet(CLIENT, 1, VIP, 80, data_offset=6))),
    redirector("R13 data offset 6, IPv6", gue(tcp_packet(CLIENT6, 1, VIP6, 443, data_offset=6))),
    redirector("R13 data offset 6, behind options",
               gue(tcp_packet(CLIENT, 1, VIP, 80, data_offset=6, options=NOPS))),
    redirector("R13 data offset beyond a first fragment",
               gue(tcp_packet(CLIENT, 1, VIP, 80, data_offset=8, fragment=0x2000), C)),
    redirector("R13 padding is no part",
               gue(tcp_packet(CLIENT, 1, VIP, 80, data_offset=6)) + bytes(4)),
    redirector("R13 7 bytes of UDP", gue(ipv4(CLIENT, VIP, 17, UDP[20:27]))),
    redirector("R13 7 bytes of UDP over IPv6", gue(ipv6(CLIENT6, VIP6, 17, UDP6[40:47]))),
    redirector("R13 7 bytes of UDP behind options",
               gue(ipv4(CLIENT, VIP, 17, UDP[20:27], options=NOPS))),
    redirector("R13 7 bytes of UDP behind a header",
               gue(ipv6(CLIENT6, VIP6, 17, UDP6[40:47], headers=[hop_by_hop(), routing()]))),
    redirector("R13 7 bytes of ICMP", gue(ipv4(CLIENT, VIP, 1, ECHO[20:27]))),
    redirector("R13 7 bytes of ICMP behind options",
               gue(ipv4(CLIENT, VIP, 1, ECHO[20:27], options=NOPS))),
    redirector("R13 7 bytes of ICMP over IPv6",
               gue(ipv6(CLIENT6, VIP6, 58, b"\x80" + bytes(6)))),
    redirector("R13 7 bytes of ICMP behind a header",
               gue(ipv6(CLIENT6, VIP6, 58, b"\x80" + bytes(6), headers=[hop_by_hop()]))),
    redirector("R13 no byte of ICMP", gue(ipv4(CLIENT, VIP, 1, b""))),
    redirector("R13 short ICMP error", gue(ipv4(CLIENT, VIP, 1, b"\x03\x04"))),
    redirector("R13 hops left", gue(ipv4(CLIENT, VIP, 6, b""), C)),
    redirector("R14 GRE", gue(ipv4(CLIENT, VIP, 47, b""))),
    redirector("R14 GRE of 20 bytes", gue(ipv4(CLIENT, VIP, 47, bytes(20)))),
    redirector("R14 no next header", gue(ipv6(CLIENT6, VIP6, 59, b"", headers=[hop_by_hop()]))),
    redirector("R14 no next header at once", gue(ipv6(CLIENT6, VIP6, 59, bytes(8)))),
    redirector("R14 the other family's ICMP", gue(ipv4(CLIENT, VIP, 58, b"\x80" + bytes(7)))),
    redirector("R14 the other family's ICMP, IPv6",
               gue(ipv6(CLIENT6, VIP6, 1, b"\x08" + bytes(7)))),
    redirector("R14 the other family's ICMP, short", gue(ipv6(CLIENT6, VIP6, 1, b""))),
    redirector("R14 echo reply", gue(icmp_packet(CLIENT, VIP, kind=0))),
    redirector("R14 echo reply over IPv6", gue(icmp_packet(CLIENT6, VIP6, kind=129))),
    redirector("R14 neighbour solicitation", gue(icmp_packet(CLIENT6, VIP6, kind=135))),
    redirector("R14 neighbour advertisement", gue(icmp_packet(CLIENT6, VIP6, kind=136))),
    redirector("R14 redirect", gue(icmp_error(ROUTER, ANSWER, kind=5))),
    redirector("R14 redirect without a packet", gue(icmp_packet(CLIENT, VIP, kind=5))),
    redirector("R14 IPv6's echo in IPv4", gue(icmp_packet(CLIENT, VIP, kind=128))),
    redirector("R14 IPv4's error in IPv6", gue(icmp_error(ROUTER6, ANSWER6, kind=11))),
    redirector("R14 type 8, code 1", gue(icmp_packet(CLIENT, VIP, code=1), C)),
    redirector("R14 type 128, code 1", gue(icmp_packet(CLIENT6, VIP6, code=1))),
)  # fmt: skip

LONG6 = answer6(headers=[destination_options(256)])
INSIDE = icmp_error(ROUTER6, answer6(headers=[destination_options(24)])[:72], headers=[routing()])
FIRST_INSIDE = icmp_error(ROUTER, udp_packet(VIP, 53, CLIENT, 1, fragment=0x2000))
ERROR_ROWS = (
    redirector("J1 nothing", about(b"", VIP)),
    redirector("J1 nothing, IPv6", about(b"", VIP6)),
    redirector("J1 19 bytes", about(ANSWER[:19])),
    redirector("J1 39 bytes of IPv6", about(ANSWER6[:39])),
    redirector("J1 padding is no part", about(ANSWER[:19]) + ANSWER[19:]),
    redirector("J1 ihl 4", about(patched(ANSWER, 0, b"\x44"))),
    redirector("J1 ihl before another source", about(patched(DATA, 0, b"\x44"), VIP)),
    redirector("J1 IPv6 in IPv4", about(ANSWER6, VIP)),
    redirector("J1 IPv4 in IPv6", about(ANSWER + bytes(20), VIP6)),
    redirector("J1 hops left", gue(icmp_error(ROUTER, b"", destination=VIP), C)),
    redirector("J2 about another's packet", about(DATA, VIP)),
    redirector("J2 about another's packet, IPv6", about(DATA6, VIP6)),
    redirector("J2 before its options", about(patched(DATA, 0, b"\x4f"), VIP)),
    redirector("J2 before its headers", about(data6(SEVEN), VIP6)),
    redirector("J3 options cut", about(patched(ANSWER, 0, b"\x4b")), counter=MALFORMED),
    redirector("J3 options of 8 bytes cut", about(patched(ANSWER[:28], 0, b"\x4f")),
               counter=MALFORMED),
    redirector("J3 headers cut", about(LONG6[:47]), counter=MALFORMED),
    redirector("J3 seven extension headers", about(answer6(headers=SEVEN)), counter=TOO_MANY),
    redirector("J4 later fragment", about(udp_packet(VIP, 53, CLIENT, 1, fragment=1))),
    redirector("J4 later fragment of TCP", about(answer(fragment=1))),
    redirector("J4 later fragment, IPv6", about(answer6(headers=[fragment_header(1)]))),
    redirector("J4 an echo reply", about(icmp_packet(VIP, CLIENT, kind=0))),
    redirector("J4 an echo, IPv6", about(icmp_packet(VIP6, CLIENT6))),
    redirector("J4 before short", about(ipv4(VIP, CLIENT, 132, b""))),
    redirector("J5 7 bytes of TCP", about(ANSWER[:27])),
    redirector("J5 7 bytes over IPv6", about(ANSWER6[:47])),
    redirector("J5 padding is no part", about(ANSWER[:27]) + bytes(9)),
    redirector("J5 a byte short behind 256 bytes of headers in as many",
               about(LONG6[:303], headers=[destination_options(256)])),
    redirector("R16 8 bytes behind 256 bytes of headers in as many",
               about(LONG6[:304], headers=[destination_options(256)])),
    redirector("R16 8 bytes", about(ANSWER[:28])),
    redirector("R16 8 bytes over IPv6", about(ANSWER6[:48])),
    redirector("R16 options inside and out", about(answer(options=NOPS)[:32], options=NOPS)),
    *(redirector(f"R16 error of type {kind}", about(ANSWER, kind=kind, code=0))
      for kind in (3, 11, 12)),
    *(redirector(f"R16 error of type {kind}, IPv6", about(ANSWER6, kind=kind, code=0))
      for kind in (1, 2, 3, 4)),
    redirector("R22 headers inside and out", gue(INSIDE, C), KNOWN),
    redirector("R22 a first fragment inside", gue(FIRST_INSIDE, C), CONNECTED),
    redirector("R25 8 bytes", gue(icmp_error(ROUTER, ANSWER[:28]), C)),
    redirector("R25 8 bytes over IPv6", gue(icmp_error(ROUTER6, ANSWER6[:48]), C)),
    redirector("R25 any type and code", gue(icmp_error(ROUTER, ANSWER, kind=12, code=7), C)),
)  # fmt: skip

ROWS = (*IP_ROWS, *UPPER_ROWS, *ERROR_ROWS)
