"""ICMP at the forwarder: lines I1 to I9 of wire.md, section 4.3, and where an error goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model import Address
from tests.model.frames import (
    C_TAG,
    SERVER_MAC,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    framed,
    gue_packet,
    icmp_error,
    icmp_packet,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.packets.forwarder import SIX, changed
from tests.packets.out import has
from tests.packets.row import Row, forwarder
from tests.packets.world import (
    ANSWER,
    ANSWER6,
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    DNS_STATELESS,
    HTTP,
    HTTP6,
    NO_TABLE,
    NO_VIP,
    NO_VIP6,
    NOPS,
    OTHER_VIP,
    REPLY,
    REPLY6,
    ROUTER,
    ROUTER6,
    VIP,
    VIP6,
    dip,
    here,
    mac,
    outer_port,
)

ERROR, ERROR6 = icmp_error(ROUTER, ANSWER), icmp_error(ROUTER6, ANSWER6)
EMBEDDED = 20 + 8
"""Behind the outer IP header and ICMP's 8 bytes."""
SEVEN = [routing()] * 7
LONG_ANSWER = ANSWER + bytes(1400)


def about(embedded: bytes, to: Address | None = None, **fields: Any) -> bytes:
    """A frame with an error about a packet, to that packet's source by default."""
    family = to.version if to else embedded[0] >> 4
    router = ROUTER if family == 4 else ROUTER6
    return framed(icmp_error(router, embedded, destination=to, **fields))


def answer6(port: int = 443, **fields: Any) -> bytes:
    """A packet from the VIP of IPv6."""
    return tcp_packet(VIP6, port, CLIENT6, 1, **fields)


def answer(port: int = 80, **fields: Any) -> bytes:
    """A packet from the VIP."""
    return tcp_packet(VIP, port, CLIENT, 1, **fields)


CHECK_ROWS = (
    forwarder("I1 echo elsewhere", framed(icmp_packet(CLIENT, NO_VIP))),
    forwarder("I1 echo to a DIP", framed(icmp_packet(CLIENT, dip(2)))),
    forwarder("I1 echo elsewhere, IPv6", framed(icmp_packet(CLIENT6, NO_VIP6))),
    forwarder("I1 an error elsewhere", about(ANSWER, NO_VIP)),
    forwarder("I1 before short", framed(ipv4(CLIENT, NO_VIP, 1, bytes(7)))),
    forwarder("I1 neighbour discovery", framed(icmp_packet(CLIENT6, NO_VIP6, kind=135))),
    forwarder("I2 nothing", framed(ipv4(CLIENT, OTHER_VIP, 1, b""))),
    forwarder("I2 7 bytes", framed(ipv4(CLIENT, VIP, 1, b"\x08" + bytes(6)))),
    forwarder("I2 7 bytes of IPv6", framed(ipv6(CLIENT6, VIP6, 58, b"\x80" + bytes(6)))),
    forwarder("I2 7 bytes behind options", framed(icmp_packet(CLIENT, VIP, options=NOPS)[:31])),
    forwarder("I3 echo request", framed(icmp_packet(CLIENT, VIP))),
    forwarder("I3 echo request, IPv6", framed(icmp_packet(CLIENT6, VIP6))),
    forwarder("I3 behind a tag", framed(icmp_packet(CLIENT, VIP), tags=[C_TAG])),
    forwarder("I3 behind a header", framed(icmp_packet(CLIENT6, VIP6, headers=[routing()]))),
    forwarder("I3 redirect", about(ANSWER, kind=5)),
    forwarder("I3 source quench", about(ANSWER, kind=4)),
    forwarder("I3 IPv6's types in IPv4", about(ANSWER, kind=1)),
    forwarder("I3 IPv4's types in IPv6", about(ANSWER6, kind=11)),
    forwarder("I3 neighbour solicitation", framed(icmp_packet(CLIENT6, VIP6, kind=135))),
    forwarder("I3 a wrong length is not checked",
              changed(icmp_packet(CLIENT, VIP), 2, b"\x00\x01")),
    forwarder("I4 nothing", about(b"", VIP)),
    forwarder("I4 19 bytes", about(ANSWER[:19])),
    forwarder("I4 39 bytes of IPv6", about(ANSWER6[:39])),
    forwarder("I4 ihl 4", changed(ERROR, EMBEDDED, b"\x44")),
    forwarder("I4 IPv6 in IPv4", about(ANSWER6, VIP)),
    forwarder("I4 IPv4 in IPv6", about(ANSWER + bytes(20), VIP6)),
    forwarder("I4 version 5", changed(ERROR, EMBEDDED, b"\x55")),
    forwarder("I5 another VIP's", about(tcp_packet(OTHER_VIP, 80, CLIENT, 40000), VIP)),
    forwarder("I5 the client's own", about(tcp_packet(CLIENT, 40000, VIP, 80), VIP)),
    forwarder("I5 the client's own, IPv6", about(tcp_packet(CLIENT6, 40000, VIP6, 80), VIP6)),
    forwarder("I5 IPv6", about(tcp_packet(NO_VIP6, 443, CLIENT6, 40000), VIP6)),
    forwarder("I5 before too many headers",
              about(tcp_packet(NO_VIP6, 443, CLIENT6, 1, headers=SEVEN), VIP6)),
    forwarder("I6 options cut", changed(ERROR, EMBEDDED, b"\x4b"), counter="drop_malformed"),
    forwarder("I6 headers cut", about(answer6(headers=[routing()])[:47]),
              counter="drop_malformed"),
    forwarder("I6 seven headers", about(answer6(headers=SEVEN)), counter="drop_ext_headers"),
    forwarder("I7 later fragment", about(ipv4(VIP, CLIENT, 17, REPLY, fragment=1))),
    forwarder("I7 later fragment, IPv6", about(answer6(headers=[fragment_header(1)]))),
    forwarder("I7 an echo reply", about(icmp_packet(VIP, CLIENT, kind=0))),
    forwarder("I7 an echo, IPv6", about(icmp_packet(VIP6, CLIENT6))),
    forwarder("I7 SCTP", about(ipv4(VIP, CLIENT, 132, bytes(20)))),
    forwarder("I7 before short", about(ipv4(VIP, CLIENT, 132, b""))),
    forwarder("I8 7 bytes of TCP", about(ANSWER[:27])),
    forwarder("I8 7 bytes of TCP over IPv6", about(ANSWER6[:47])),
    forwarder("I8 behind options", about(answer(options=NOPS)[:31])),
    forwarder("I8 before no service", about(answer(4444)[:27])),
    forwarder("I9 another port", about(tcp_packet(VIP, 4444, CLIENT, 40000))),
    forwarder("I9 another protocol", about(tcp_packet(VIP, 53, CLIENT, 40000))),
    forwarder("I9 ports the wrong way", about(tcp_packet(VIP, 1, CLIENT, 80))),
    forwarder("I9 IPv6", about(tcp_packet(VIP6, 80, CLIENT6, 40000))),
)  # fmt: skip

SENT_ROWS = (
    forwarder("F14 an error's total length ends in the 8 bytes", changed(ERROR, 2, b"\0\x37"),
              service=HTTP),
    forwarder("F14 an error longer than the frame",
              changed(ERROR, 2, (len(ERROR) + 1).to_bytes(2, "big")), service=HTTP),
    forwarder("F14 payload length ends in the 8 bytes",
              changed(ERROR6, 4, (8 + 40 + 7).to_bytes(2, "big")), service=HTTP6),
    forwarder("F14 embedded options count as read",
              changed(icmp_error(ROUTER, answer(options=NOPS)), 2, b"\0\x3b"), service=HTTP),
    forwarder("F15 an error, no table", about(answer(81)), service=NO_TABLE),
    forwarder("F16 an error, an empty bucket", framed(ERROR), here(), HTTP),
    forwarder("F18 an error for this server", framed(ERROR), here(1), HTTP),
    forwarder("F19 an error, self first", framed(ERROR6), here(1, 2), HTTP6),
    forwarder("F19 an error, too big", framed(ERROR), here(1, 2, mtu=75), HTTP),
    forwarder("F19 an error, too big, IPv6", framed(ERROR6), here(1, 2, mtu=75), HTTP6),
    forwarder("F19 an error, too big and long enough to quote", about(LONG_ANSWER),
              here(1, 2, mtu=576), HTTP),
    forwarder("F20 an error, 1 byte over", framed(ERROR), here(2, mtu=103), HTTP,
              counter="drop_too_big"),
    forwarder("F20 an error is never answered", about(LONG_ANSWER), here(2, mtu=576), HTTP,
              counter="drop_too_big"),
    forwarder("F20 an error is never answered, IPv6", about(ANSWER6 + bytes(1400)),
              here(2, mtu=576), HTTP6, counter="drop_too_big"),
    forwarder("F21 an error fits to the byte", framed(ERROR), here(2, mtu=104), HTTP,
              out=has(34, (64067).to_bytes(2, "big"))),
    forwarder("F21 8 bytes are enough", about(ANSWER[:28]), service=HTTP),
    forwarder("F21 8 bytes are enough, IPv6", about(ANSWER6[:48]), service=HTTP6),
    forwarder("F21 total length ends behind the 8 bytes", changed(ERROR, 2, b"\0\x38"),
              service=HTTP),
    forwarder("F21 time exceeded", about(ANSWER, kind=11, code=0), service=HTTP),
    forwarder("F21 parameter problem", about(ANSWER, kind=12), service=HTTP),
    forwarder("F21 an unknown code", about(ANSWER, code=99), service=HTTP),
    forwarder("F21 a first fragment inside", about(answer(fragment=0x2000)), service=HTTP),
    forwarder("F21 headers inside and out",
              about(answer6(headers=[authentication(), fragment_header(more=True)]),
                    headers=[destination_options(16)]), service=HTTP6),
    forwarder("F21 six headers inside and out", about(answer6(headers=SIX), headers=SIX),
              service=HTTP6),
    forwarder("F21 options inside and out", about(answer(options=NOPS), options=NOPS),
              service=HTTP),
    forwarder("F21 a wrong checksum", changed(ERROR, 22, b"\xab\xcd"), service=HTTP),
    forwarder("F21 a wrong length inside", changed(ERROR, EMBEDDED + 2, b"\x00\x00"),
              service=HTTP),
    forwarder("F21 an error about stateless UDP", about(udp_packet(OTHER_VIP, 53, CLIENT, 1)),
              here(2, 9), DNS_STATELESS),
    forwarder("F21 the outer TOS is the error's own", about(answer(tos=0x04), tos=0xC0),
              service=HTTP, out=has(15, b"\xc0")),
    forwarder("F22 an error with later hops", framed(ERROR6), here(2, 3), HTTP6),
    *(forwarder(f"F21 type {kind}, IPv6", about(ANSWER6, kind=kind), service=HTTP6)
      for kind in (1, 2, 3, 4)),
)  # fmt: skip


def way_rows() -> Iterator[Row]:
    """An error goes where its flow's packets go: the same hops in the same order, and port."""
    for packet, service in ((ANSWER, HTTP), (REPLY, DNS), (ANSWER6, HTTP6), (REPLY6, DNS6)):
        name, version = "UDP" if service in {DNS, DNS6} else "TCP", packet[0] >> 4
        first, *later = (dip(number) for number in ((4, 3, 2) if name == "UDP" else (2, 3, 4)))
        error = icmp_error(ROUTER if version == 4 else ROUTER6, packet)
        port = int.from_bytes(outer_port(service), "big")
        wrap = gue_packet(dip(1), first, error, later, source_port=port)
        yield forwarder(
            *(f"F22 about {name}, IPv{version}", framed(error), here(2, 3, 4), service),
            out=ethernet(wrap, destination=mac(first.packed[-1]), source=SERVER_MAC),
        )


ROWS = (*CHECK_ROWS, *SENT_ROWS, *way_rows())
