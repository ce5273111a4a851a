"""Lines F1 to F22 of wire.md, section 4.2: what applies, and which of two lines applies first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model import Address
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
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
from tests.packets.out import both, has, visits
from tests.packets.row import Row, forwarder
from tests.packets.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    DNS_STATELESS,
    FAMILIES,
    GAME,
    HTTP,
    HTTP6,
    IN_WIDE,
    IN_WIDE6,
    NO_POOL,
    NO_TABLE,
    NO_VIP,
    NO_VIP6,
    NOPS,
    OTHER_VIP,
    SYN,
    TCP,
    TCP6,
    UDP,
    UDP6,
    VIP,
    VIP6,
    WIDE6_ANY,
    WIDE_ANY,
    WIDE_HTTP,
    dip,
    here,
    mac,
    patched,
)

ELSEWHERE = tcp_packet(CLIENT, 40000, NO_VIP, 80)
ELSEWHERE6 = tcp_packet(CLIENT6, 40000, NO_VIP6, 443)
ALL_FIVE = [hop_by_hop(), routing(), fragment_header(), authentication(), destination_options()]
SIX = (hop_by_hop(), destination_options(16), routing(24), *ALL_FIVE[2:])
SEVEN = [destination_options()] * 7
SPOOFED = udp_packet(dip(1), 40000, VIP, 6080)
STATELESS = framed(udp_packet(CLIENT, 40000, OTHER_VIP, 53))
PADDING = b"\xaa\xbb\xcc\xdd\xee\xff"
MALFORMED, TOO_MANY = "drop_malformed", "drop_ext_headers"
ANSWERED, TOO_BIG = "tx_too_big", "drop_too_big"


def tcp(port: int = 80, vip: Address = VIP, **fields: Any) -> bytes:
    """A frame with TCP of IPv4."""
    return framed(tcp_packet(CLIENT, 40000, vip, port, **fields))


def tcp6(port: int = 443, **fields: Any) -> bytes:
    """A frame with TCP of IPv6."""
    return framed(tcp_packet(CLIENT6, 40000, VIP6, port, **fields))


def udp(size: int, **fields: Any) -> bytes:
    """A frame with so many bytes in UDP."""
    return framed(udp_packet(CLIENT, 40000, VIP, 53, payload=bytes(size), **fields))


def changed(packet: bytes, at: int, value: bytes) -> bytes:
    """A frame around a packet with some bytes overwritten."""
    return framed(patched(packet, at, value))


LINK_ROWS = (
    forwarder("F1 nothing", b""),
    forwarder("F1 13 bytes", framed(TCP)[:13]),
    forwarder("F2 a tag's EtherType and no more", ethernet(b"", kind=0x8100)),
    forwarder("F2 3 bytes of a tag", ethernet(b"\x00\x05\x08", kind=0x88A8)),
    forwarder("F2 inside the second tag", framed(TCP, tags=[S_TAG, C_TAG])[:21]),
    forwarder("F3 ARP", ethernet(bytes(46), kind=0x0806)),
    forwarder("F3 frame of 14 bytes", ethernet(b"", kind=0x1234)),
    forwarder("F3 ARP behind a tag", ethernet(bytes(46), kind=0x0806, tags=[C_TAG])),
    forwarder("F3 a tag and nothing behind it", framed(TCP, tags=[C_TAG])[:16] + b"\x00\x00"),
    forwarder("F3 three tags", framed(TCP, tags=[S_TAG, C_TAG, C_TAG])),
    forwarder("F3 three tags, IPv6", framed(TCP6, tags=[S_TAG, C_TAG, C_TAG])),
    forwarder("F3 three tags, the third cut", framed(TCP, tags=[S_TAG, C_TAG, C_TAG])[:22]),
    forwarder("F3 EtherType 0x9100", ethernet(TCP, kind=0x9100)),
    forwarder("F4 33 bytes", framed(TCP[:19])),
    forwarder("F4 no byte of IPv4", ethernet(b"")),
    forwarder("F4 no byte of IPv6", ethernet(b"", kind=0x86DD)),
    forwarder("F4 39 bytes of IPv6", framed(TCP6[:39])),
    forwarder("F4 19 bytes behind two tags", framed(TCP[:19], tags=[S_TAG, C_TAG])),
    forwarder("F4 version 6 in IPv4", ethernet(b"\x65" + TCP[1:])),
    forwarder("F4 IPv6 in IPv4", ethernet(TCP6)),
    forwarder("F4 IPv4 in IPv6", ethernet(TCP + bytes(20), kind=0x86DD)),
    forwarder("F4 version before ihl", changed(TCP, 0, b"\x54")),
)

CUT, CUT6 = tcp6(headers=[routing()])[: 14 + 47], tcp6(headers=[routing()])[: 14 + 40]
TWICE = [fragment_header(), fragment_header(9)]
IP_ROWS = (
    forwarder("F5 ihl 4", changed(TCP, 0, b"\x44")),
    forwarder("F5 ihl 0", changed(TCP, 0, b"\x40")),
    forwarder("F5 ihl before fragment", changed(patched(TCP, 0, b"\x44"), 6, b"\x20\x00")),
    forwarder("F5 ihl 6, its options cut", changed(TCP[:23], 0, b"\x46")),
    forwarder("F5 ihl 15, its options cut", changed(TCP, 0, b"\x4f")),
    forwarder("F5 ihl beyond the frame", tcp(options=bytes(40))[:70]),
    forwarder("F5 before ICMP", changed(icmp_packet(CLIENT, VIP), 0, b"\x4f")),
    forwarder("F5 before another protocol", changed(ipv4(CLIENT, VIP, 47, b""), 0, b"\x46")),
    forwarder("F5 ihl 4 elsewhere", changed(ELSEWHERE, 0, b"\x44"), elsewhere=True),
    forwarder("F5 options cut elsewhere", changed(ELSEWHERE, 0, b"\x4f"), elsewhere=True),
    forwarder("F6 nothing of it", CUT6, counter=MALFORMED),
    forwarder("F6 7 bytes of it", CUT, counter=MALFORMED),
    forwarder("F6 two fragment headers", tcp6(headers=TWICE), counter=MALFORMED),
    forwarder("F6 seven", tcp6(headers=SEVEN), counter=TOO_MANY),
    forwarder("F6 seven, of all kinds", tcp6(headers=[*SIX, routing()]), counter=TOO_MANY),
    forwarder("F6 264 bytes", tcp6(headers=[routing(264)]), counter=TOO_MANY),
    forwarder("F6 264 bytes of two", tcp6(headers=[hop_by_hop(256), routing()]), counter=TOO_MANY),
    forwarder("F6 before ICMP", framed(icmp_packet(CLIENT6, VIP6, headers=SEVEN)),
              counter=TOO_MANY),
    forwarder("F6 cut, elsewhere",
              framed(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=[routing()])[:47]),
              elsewhere=True, counter=MALFORMED),
    forwarder("F6 seven, elsewhere", framed(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN)),
              elsewhere=True, counter=TOO_MANY),
    forwarder("F7 first", framed(icmp_packet(CLIENT, VIP, fragment=0x2000))),
    forwarder("F7 later", framed(icmp_packet(CLIENT, VIP, fragment=0x0001))),
    forwarder("F7 of an error", framed(icmp_packet(CLIENT, VIP, kind=3, fragment=0x2000))),
    forwarder("F7 before its 8 bytes", framed(ipv4(CLIENT, VIP, 1, b"", fragment=0x2000))),
    forwarder("F7 first, IPv6",
              framed(icmp_packet(CLIENT6, VIP6, headers=[fragment_header(more=True)]))),
    forwarder("F7 later, IPv6", framed(icmp_packet(CLIENT6, VIP6, headers=[fragment_header(1)]))),
    forwarder("F7 elsewhere", framed(icmp_packet(CLIENT, NO_VIP, fragment=0x2000)),
              elsewhere=True),
    forwarder("F7 elsewhere, IPv6",
              framed(icmp_packet(CLIENT6, NO_VIP6, headers=[fragment_header(5)])),
              elsewhere=True),
)  # fmt: skip

SERVICE_ROWS = (
    forwarder("F10 GRE to a VIP", framed(ipv4(CLIENT, VIP, 47, bytes(8)))),
    forwarder("F10 the other family's ICMP", framed(ipv4(CLIENT, VIP, 58, bytes(8)))),
    forwarder("F10 the other family's ICMP, IPv6", framed(ipv6(CLIENT6, VIP6, 1, bytes(8)))),
    forwarder("F10 an extension header's number in IPv4", framed(ipv4(CLIENT, VIP, 43, bytes(8)))),
    forwarder("F10 no next header", framed(ipv6(CLIENT6, VIP6, 59, b""))),
    forwarder("F10 first fragment of GRE",
              framed(ipv4(CLIENT, VIP, 47, bytes(8), fragment=0x2000))),
    forwarder("F10 no byte of SCTP behind headers",
              framed(ipv6(CLIENT6, VIP6, 132, b"", headers=ALL_FIVE))),
    forwarder("F11 19 bytes of TCP", framed(TCP[:39])),
    forwarder("F11 7 bytes of UDP", framed(UDP[:27])),
    forwarder("F11 19 bytes of TCP over IPv6", framed(TCP6[:59])),
    forwarder("F11 7 bytes of UDP over IPv6", framed(UDP6[:47])),
    forwarder("F11 behind options", tcp(options=NOPS)[: 14 + 43]),
    forwarder("F11 behind extension headers", tcp6(headers=ALL_FIVE)[:-1]),
    forwarder("F11 a header that ends behind the frame", tcp6(headers=[routing(16)])[: 14 + 50]),
    forwarder("F11 a short first fragment",
              framed(ipv4(CLIENT, VIP, 17, bytes(7), fragment=0x2000))),
    forwarder("F11 no service either", tcp(4444)[:53]),
    forwarder("F11 before spoofed", framed(SPOOFED[:27])),
    forwarder("F11 short elsewhere", framed(ELSEWHERE[:39]), elsewhere=True),
    forwarder("F11 short elsewhere, IPv6", framed(ELSEWHERE6[:59]), elsewhere=True),
    forwarder("F12 own DIP as source", framed(SPOOFED)),
    forwarder("F12 whatever the destination", framed(gue_packet(dip(1), dip(1), TCP))),
    forwarder("F12 own DIP to another", framed(gue_packet(dip(1), dip(2), TCP))),
    forwarder("F12 behind options", framed(udp_packet(dip(1), 40000, VIP, 6080, options=NOPS))),
    forwarder("F12 behind tags", framed(SPOOFED, tags=[S_TAG, C_TAG])),
    forwarder("F12 a first fragment",
              framed(udp_packet(dip(1), 40000, VIP, 6080, fragment=0x2000))),
    forwarder("F12 before its length", changed(SPOOFED, 2, b"\x00\x00")),
    forwarder("F13 another port", tcp(4444)),
    forwarder("F13 another protocol", framed(udp_packet(CLIENT, 40000, VIP, 80))),
    forwarder("F13 another VIP", tcp(vip=OTHER_VIP)),
    forwarder("F13 another address", framed(ELSEWHERE)),
    forwarder("F13 another VIP, IPv6", framed(ELSEWHERE6)),
    forwarder("F13 another port, IPv6", tcp6(80)),
    forwarder("F13 GUE from another DIP", framed(gue_packet(dip(2), dip(1), TCP))),
    forwarder("F13 own DIP, other port", framed(udp_packet(dip(1), 40000, VIP, 6081))),
    forwarder("F13 own DIP, TCP", framed(tcp_packet(dip(1), 40000, VIP, 6080))),
    forwarder("F13 before its length", changed(tcp_packet(CLIENT, 1, VIP, 4444), 2, b"\x00\x00")),
    forwarder("F13 a prefix, another protocol", framed(udp_packet(CLIENT, 40000, IN_WIDE, 80))),
    forwarder("F21 a prefix, any port", tcp(4711, IN_WIDE), service=WIDE_ANY),
    forwarder("F21 a prefix, its port", tcp(80, IN_WIDE), service=WIDE_HTTP),
    forwarder("F21 a prefix, any port, options", tcp(443, IN_WIDE, options=NOPS),
              service=WIDE_ANY),
    forwarder("F21 a shorter prefix's port", tcp(443, IN_WIDE), service=WIDE_ANY),
    forwarder("F21 a shorter prefix's port, IPv6",
              framed(tcp_packet(CLIENT6, 40000, IN_WIDE6, 443)), service=WIDE6_ANY),
)  # fmt: skip

LENGTH_ROWS = (
    forwarder("F14 total length 39", changed(TCP, 2, b"\x00\x27"), service=HTTP),
    forwarder("F14 total length 27", changed(UDP, 2, b"\x00\x1b"), service=DNS),
    forwarder("F14 total length past the end", changed(TCP, 2, b"\x00\x29"), service=HTTP),
    forwarder("F14 a byte short", framed(UDP[:-1]), service=DNS),
    forwarder("F14 a byte short, IPv6", framed(UDP6[:-1]), service=DNS6),
    forwarder("F14 payload length 19", changed(TCP6, 4, b"\x00\x13"), service=HTTP6),
    forwarder("F14 payload length 7", changed(UDP6, 4, b"\x00\x07"), service=DNS6),
    forwarder("F14 payload length past the end", changed(TCP6, 4, b"\x00\x15"), service=HTTP6),
    forwarder("F14 options count as read",
              changed(tcp_packet(CLIENT, 40000, VIP, 80, options=NOPS), 2, b"\x00\x2b"),
              service=HTTP),
    forwarder("F14 extension headers count as read",
              changed(tcp6(headers=[routing(24)])[14:], 4, bytes([0, 24 + 19])), service=HTTP6),
    forwarder("F14 a tag is no part", framed(patched(TCP, 2, b"\x00\x2b"), tags=[C_TAG]),
              service=HTTP),
    forwarder("F14 before the table", changed(tcp(81)[14:], 2, b"\x00\x29"), service=NO_TABLE),
    forwarder("F15 no table", tcp(81), service=NO_TABLE),
    forwarder("F15 a pool that is missing", tcp(82), service=NO_POOL),
    forwarder("F16 no chain", framed(TCP), here(), HTTP),
    forwarder("F16 zero before others", framed(TCP), here(0, 2), HTTP),
    forwarder("F16 zero before others, UDP", framed(UDP), here(0, 2), DNS),
    forwarder("F17 current without entry", framed(TCP), here(9), HTTP),
    forwarder("F17 previous without entry", framed(TCP), here(2, 9), HTTP),
    forwarder("F17 previous without entry, IPv6", framed(TCP6), here(2, 9), HTTP6),
    forwarder("F17 oldest without entry", framed(TCP), here(2, 3, 4, 9), HTTP),
    forwarder("F17 later hop, first is self", framed(TCP), here(1, 9), HTTP),
    forwarder("F17 self", framed(TCP), here(1, no_entry=frozenset({1})), HTTP),
    forwarder("F17 before too big", framed(TCP), here(9, mtu=75), HTTP),
)  # fmt: skip

LONG = tcp(payload=bytes(472))
"""512 bytes, as many as an answer quotes."""

SENT_ROWS = (
    forwarder("F18 self alone", framed(TCP), here(1), HTTP),
    forwarder("F18 self alone, IPv6", framed(TCP6), here(1), HTTP6),
    forwarder("F18 self alone, tags", framed(TCP, tags=[S_TAG, C_TAG]), here(1), HTTP),
    forwarder("F18 self, then zero", framed(TCP), here(1, 0, 3), HTTP),
    forwarder("F18 self, too big", framed(TCP), here(1, mtu=75), HTTP),
    forwarder("F18 stateless UDP, self alone", STATELESS, here(1, 3), DNS_STATELESS),
    forwarder("F19 self, then another", framed(TCP), here(1, 2), HTTP,
              out=both(visits(1, 2), has(0, SERVER_MAC + ROUTER_MAC + b"\x08\x00"),
                       has(26, dip(1).packed * 2))),
    forwarder("F19 self first, IPv6", framed(TCP6), here(1, 2), HTTP6, out=visits(1, 2)),
    forwarder("F19 TCP of four, self the newest", framed(TCP), here(1, 2, 3, 4), HTTP,
              out=visits(1, 2, 3, 4)),
    forwarder("F19 self oldest, UDP", framed(UDP), here(2, 1), DNS, out=visits(1, 2)),
    forwarder("F19 UDP of four, self the oldest", framed(UDP), here(2, 3, 4, 1), DNS,
              out=visits(1, 4, 3, 2)),
    forwarder("F19 self, fits to the byte", framed(TCP), here(1, 2, mtu=80), HTTP),
    forwarder("F19 self, fits to the byte, IPv6", framed(TCP6), here(1, 2, mtu=100), HTTP6),
    forwarder("F19 self, too big without DF", changed(TCP, 6, b"\0\0"), here(1, 2, mtu=79), HTTP),
    forwarder("F19 self, too big, a first fragment without DF", changed(TCP, 6, b"\x20\0"),
              here(1, 2, mtu=79), HTTP),
    forwarder("F19 self first, too big without DF, UDP", udp(1464, fragment=0), here(2, 1), DNS),
    forwarder("F20 self first, too big, answered", udp(1464), here(2, 1), DNS, counter=ANSWERED),
    forwarder("F20 self, 1 byte over", framed(TCP), here(1, 2, mtu=79), HTTP, counter=TOO_BIG),
    forwarder("F20 self, IPv6, 1 byte over", framed(TCP6), here(1, 2, mtu=99), HTTP6,
              counter=TOO_BIG),
    forwarder("F20 self, 512 bytes, 1 byte over", LONG, here(1, 2, mtu=551), HTTP,
              counter=ANSWERED),
    forwarder("F20 no hop, 1 byte over", framed(TCP), here(2, mtu=75), HTTP, counter=TOO_BIG),
    forwarder("F20 one hop, 1 byte over", framed(TCP), here(2, 3, mtu=79), HTTP, counter=TOO_BIG),
    forwarder("F20 IPv6, 1 byte over", framed(TCP6), here(2, mtu=95), HTTP6, counter=TOO_BIG),
    forwarder("F20 512 bytes, 1 byte over", LONG, here(2, mtu=547), HTTP, counter=ANSWERED),
    forwarder("F20 too big by a byte", udp(1437), service=DNS, counter=ANSWERED),
    forwarder("F20 a hop more is too big", tcp(payload=bytes(1424)), here(2, 3), HTTP,
              counter=ANSWERED),
    forwarder("F20 four too big by a byte", tcp(payload=bytes(1413)), here(2, 3, 4, 1), HTTP,
              counter=ANSWERED),
    forwarder("F21 at rest", framed(TCP), service=HTTP),
    forwarder("F21 a reserved bit is no fragment", changed(TCP, 6, b"\x80\x00"), service=HTTP),
    forwarder("F21 DF and the reserved bit", changed(TCP, 6, b"\xc0\x00"), service=HTTP),
    forwarder("F21 a UDP frame of 42 bytes is whole", udp(0), service=DNS),
    forwarder("F21 options", tcp(options=NOPS), service=HTTP),
    forwarder("F21 40 bytes of options", udp(0, options=NOPS * 10), service=DNS),
    forwarder("F21 all extension headers", tcp6(headers=ALL_FIVE), service=HTTP6),
    forwarder("F21 six of them", tcp6(headers=SEVEN[:6]), service=HTTP6),
    forwarder("F21 256 bytes of them", tcp6(headers=[routing(256)]), service=HTTP6),
    forwarder("F21 an atomic fragment", tcp6(headers=[fragment_header(reserved=0x3FF)]),
              service=HTTP6),
    forwarder("F21 a first fragment", udp(0, fragment=0x2000), service=DNS),
    forwarder("F21 known MAC", framed(TCP), service=HTTP,
              out=has(0, mac(2) + SERVER_MAC + b"\x08\x00")),
    forwarder("F21 unknown MAC goes back", framed(TCP), here(2, no_mac=frozenset({2})), HTTP,
              out=has(0, ROUTER_MAC + SERVER_MAC + b"\x08\x00")),
    forwarder("F21 TOS is copied", tcp(tos=0xB9), service=HTTP, out=has(15, b"\xb9")),
    forwarder("F21 padding stays behind", framed(TCP) + PADDING, service=HTTP,
              out=has(16, bytes((0, 76)))),
    forwarder("F21 fits to the byte", framed(TCP), here(2, mtu=76), HTTP),
    forwarder("F21 fits to the byte, tags do not count", framed(TCP, tags=[C_TAG]),
              here(2, mtu=76), HTTP),
    forwarder("F21 fits to the byte, IPv6", framed(TCP6), here(2, mtu=96), HTTP6),
    forwarder("F21 1,500 bytes fit", udp(1436), service=DNS),
    forwarder("F21 then zero", framed(TCP), here(2, 0, 3), HTTP),
    forwarder("F21 stateless UDP: current only", STATELESS, here(2, 3), DNS_STATELESS,
              out=visits(2)),
    forwarder("F21 stateless UDP of four: current only", STATELESS, here(2, 3, 4, 1),
              DNS_STATELESS, out=visits(2)),
    forwarder("F21 stateless UDP, previous without entry", STATELESS, here(2, 9), DNS_STATELESS),
    forwarder("F22 one later hop", framed(TCP), here(2, 3, mtu=80), HTTP, out=visits(2, 3)),
    forwarder("F22 TCP newest first", tcp(), here(2, 3, 4), HTTP, out=visits(2, 3, 4)),
    forwarder("F22 TCP of four, self the oldest", framed(TCP), here(2, 3, 4, 1), HTTP,
              out=visits(2, 3, 4, 1)),
    forwarder("F22 a SYN takes the same way", tcp(flags=SYN), here(2, 3), HTTP, out=visits(2, 3)),
    forwarder("F22 UDP oldest first", framed(UDP), here(2, 3, 4), DNS, out=visits(4, 3, 2)),
    forwarder("F22 UDP of another VIP", framed(udp_packet(CLIENT, 1, OTHER_VIP, 27015)),
              here(1, 2), GAME, out=visits(2, 1)),
    forwarder("F22 UDP over IPv6", framed(UDP6), here(1, 2), DNS6, out=visits(2, 1)),
    forwarder("F22 four fit to the byte", tcp(payload=bytes(1412)), here(2, 3, 4, 1), HTTP,
              out=visits(2, 3, 4, 1)),
    forwarder("F22 zero ends a chain", framed(TCP), here(2, 3, 0, 4), HTTP, out=visits(2, 3)),
    forwarder("F22 no checks of what the inner stack checks",
              changed(TCP, 10, b"\xff\xff" + TCP[12:32] + b"\x00"), here(2, 3), HTTP),
)  # fmt: skip


def family_rows(vip: Address, client: Address) -> Iterator[Row]:
    """What both families have in common: tags, long headers, chains."""
    v = f", IPv{vip.version}"
    web, dns, port = (HTTP, DNS, 80) if vip.version == 4 else (HTTP6, DNS6, 443)
    rare: dict[str, Any] = {"options": NOPS} if vip.version == 4 else {"headers": SIX}
    plain = tcp_packet(client, 40000, vip, port, flags=0x10)
    long = tcp_packet(client, 40000, vip, port, flags=0x10, **rare)
    query = udp_packet(client, 40000, vip, 53, payload=b"hello")
    long_query = udp_packet(client, 40000, vip, 53, payload=b"hello", **rare)
    marked = tcp_packet(client, 40000, vip, port, tos=0xB9)
    yield forwarder(f"F2 cut in a tag{v}", framed(plain, tags=[C_TAG])[:17])
    yield forwarder(f"F11 long headers cut{v}", framed(long)[:-1])
    yield forwarder(f"F18 long headers{v}", framed(long), here(1), web)
    yield forwarder(f"F19 long headers{v}", framed(long), here(1, 2), web, out=visits(1, 2))
    yield forwarder(f"F21 long headers{v}", framed(long), service=web)
    yield forwarder(f"F21 traffic class{v}", framed(marked), service=web, out=has(15, b"\xb9"))
    yield forwarder(f"F22 long headers, four, UDP{v}", framed(long_query, tags=[C_TAG]),
                    here(1, 2, 3, 4), dns)  # fmt: skip
    yield forwarder(f"F22 TCP{v}", framed(plain), here(2, 3, 4), web, out=visits(2, 3, 4))
    yield forwarder(f"F22 UDP{v}", framed(query), here(2, 3, 4), dns, out=visits(4, 3, 2))


# Put together by hand from section 2; the source ports are those of the golden flows of section 1.
GOLDEN = tcp_packet(CLIENT, 40000, VIP, 80, tos=0xB9)
GOLDEN6 = tcp_packet(CLIENT6, 40000, VIP6, 443, tos=0xB9)
GOLDEN_ROWS = (
    forwarder("F22 golden frame", framed(GOLDEN), here(2, 3, 4), HTTP, out=bytes.fromhex(
        "020000000002" "020000000a01" "0800"
        "45b9" "0054" "0000" "4000" "40" "11" "25de" "0a000001" "0a000002"
        "fa43" "17c0" "0040" "0000"
        "03" "04" "0000"
        "00" "00" "00" "02"
        "0a000003" "0a000004"
    ) + GOLDEN),
    forwarder("F21 golden frame of IPv6", framed(GOLDEN6), service=HTTP6, out=bytes.fromhex(
        "020000000002" "020000000a01" "0800"
        "45b9" "0060" "0000" "4000" "40" "11" "25d2" "0a000001" "0a000002"
        "b8fc" "17c0" "004c" "0000"
        "01" "29" "0000"
        "00" "00" "00" "00"
    ) + GOLDEN6),
)  # fmt: skip
SOURCE_PORTS = {4: 0xFA43, 6: 0xB8FC}


def tag_rows(packet: bytes, service: int) -> Iterator[Row]:
    """Tags stay outside, and padding behind, wherever the packet goes (section 5)."""
    version = packet[0] >> 4
    v = f", IPv{version}"

    def wrapped(first: int, macs: bytes, tags: tuple[bytes, ...]) -> bytes:
        wrap = gue_packet(
            *(dip(1), dip(first), packet, [dip(3)]), tos=0xB9, source_port=SOURCE_PORTS[version]
        )
        return ethernet(wrap, destination=macs[:6], source=macs[6:], tags=tags) + PADDING

    known, to_router, own = mac(2) + SERVER_MAC, ROUTER_MAC + SERVER_MAC, SERVER_MAC + ROUTER_MAC
    for name, tags in TAGS.items():
        frame = framed(packet, tags=tags) + PADDING
        unknown = here(2, 3, no_mac=frozenset({2}))
        yield forwarder(f"F22 {name}{v}", frame, here(2, 3), service, out=wrapped(2, known, tags))
        yield forwarder(f"F22 {name}, unknown MAC{v}", frame, unknown, service,
                        out=wrapped(2, to_router, tags))  # fmt: skip
        yield forwarder(f"F19 {name}{v}", frame, here(1, 3), service, out=wrapped(1, own, tags))


TAGS = {"no tag": (), "802.1Q": (C_TAG,), "802.1ad": (S_TAG,), "two tags": (S_TAG, C_TAG)}
ROWS = (
    *(*LINK_ROWS, *IP_ROWS, *SERVICE_ROWS, *LENGTH_ROWS, *SENT_ROWS, *GOLDEN_ROWS),
    *(row for vip, client in FAMILIES for row in family_rows(vip, client)),
    *tag_rows(GOLDEN, HTTP),
    *tag_rows(tcp_packet(CLIENT6, 40000, VIP6, 443, tos=0xB9, headers=[hop_by_hop()]), HTTP6),
)
