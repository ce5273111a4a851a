"""Frames for another host's MAC: wire.md, section 4.2 (F12, F13b, "VIP?"), 4.3 (I1b) and 4.4."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import Config
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
    ethernet,
    fragment_header,
    fragments_of,
    framed,
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
from tests.packets.row import Packet, Row, forwarder
from tests.packets.world import (
    ANSWER,
    ANSWER6,
    AT_REST,
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    HTTP,
    IN_WIDE,
    IN_WIDE6,
    NO_VIP,
    NO_VIP6,
    NOPS,
    OTHER_VIP,
    ROUTER,
    ROUTER6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    VIP,
    VIP6,
    dip,
    here,
    mac,
    patched,
)

BROADCAST = b"\xff" * 6
MACS = {
    **{
        f"byte {at} of the MAC differs": patched(SERVER_MAC, at, bytes([SERVER_MAC[at] ^ 0x40]))
        for at in range(6)
    },
    "the MAC's last bit differs": patched(SERVER_MAC, 5, bytes([SERVER_MAC[5] ^ 1])),
    "broadcast": BROADCAST,
    "multicast": bytes.fromhex("01005e00000a"),
    "multicast of IPv6": bytes.fromhex("3333ff000010"),
    "no MAC": bytes(6),
    "another server's MAC": mac(2),
    "the router's MAC": ROUTER_MAC,
    "the MAC's bytes in reverse order": SERVER_MAC[::-1],
}
OTHER = mac(2)
SEVEN = [routing()] * 7
SPOOFED = udp_packet(dip(1), 40000, VIP, 6080)
SPOOFED_GUE = gue_packet(dip(1), dip(1), TCP)
QUESTION = bytes(range(60))
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION)
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION)
PASSED, NO_SERVICE = "pass_other_host", "pass_no_service"
SENT, UNKNOWN = "tx_forward", "drop_fragment"


def to(destination: bytes, packet: bytes, *tags: bytes) -> bytes:
    """A frame that a switch floods: for this MAC."""
    return destination + framed(packet, tags=tags)[6:]


def other(packet: bytes, *tags: bytes) -> bytes:
    """A frame for another server's MAC."""
    return to(OTHER, packet, *tags)


def mac_rows() -> Iterator[Row]:
    """Each MAC but our own is another host's, for ordinary and for rare packets."""
    kinds: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
        "TCP": (TCP, ()),
        "UDP over IPv6": (UDP6, ()),
        "two tags": (TCP, (S_TAG, C_TAG)),
    }
    for kind, (packet, tags) in kinds.items():
        for name, destination in MACS.items():
            yield forwarder(f"F13b {name}, {kind}", to(destination, packet, *tags))
    for name, source in (("our own", SERVER_MAC), ("broadcast", BROADCAST), ("none", bytes(6))):
        frame = ethernet(TCP, source=source)
        yield forwarder(f"F21 whatever the source MAC is: {name}", frame, service=HTTP)


SERVICE_ROWS = (
    forwarder("F13b UDP", other(UDP)),
    forwarder("F13b TCP over IPv6", other(TCP6)),
    forwarder("F13b a tag", other(UDP, C_TAG)),
    forwarder("F13b a tag, IPv6", other(TCP6, C_TAG)),
    forwarder("F13b options", other(tcp_packet(CLIENT, 40000, VIP, 80, options=NOPS))),
    forwarder("F13b extension headers",
              other(tcp_packet(CLIENT6, 40000, VIP6, 443, headers=[hop_by_hop(), routing()]))),
    forwarder("F13b an atomic fragment",
              other(udp_packet(CLIENT6, 40000, VIP6, 53, headers=[fragment_header()]))),
    forwarder("F13b a prefix, any port", other(tcp_packet(CLIENT, 40000, IN_WIDE, 4711))),
    forwarder("F13b a prefix, its port", other(tcp_packet(CLIENT, 40000, IN_WIDE, 80))),
    forwarder("F13b a prefix of IPv6", other(tcp_packet(CLIENT6, 40000, IN_WIDE6, 443))),
    forwarder("F13b a UDP frame of 42 bytes", other(udp_packet(CLIENT, 40000, VIP, 53))),
    forwarder("F13b before the length", other(patched(TCP, 2, b"\x00\x29"))),
    forwarder("F13b before the length, options",
              other(patched(tcp_packet(CLIENT, 40000, VIP, 80, options=NOPS), 2, b"\x00\x2b"))),
    forwarder("F13b before no table", other(tcp_packet(CLIENT, 40000, VIP, 81))),
    forwarder("F13b before an empty bucket", other(TCP), here()),
    forwarder("F13b before a DIP without entry", other(TCP), here(9)),
    forwarder("F13b before self alone", other(TCP), here(1)),
    forwarder("F13b before self first", other(TCP6), here(1, 2)),
    forwarder("F13b before too big",
              other(tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1460)))),
    forwarder("F13b before too big, a tag",
              other(tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1440)), C_TAG)),
    forwarder("F13b later hops", other(UDP), here(2, 3)),
    forwarder("F13b padding", other(TCP) + bytes(6)),
    forwarder("F13 for another host, another port", other(tcp_packet(CLIENT, 40000, VIP, 4444))),
    forwarder("F13 for another host, another address", other(tcp_packet(CLIENT, 1, NO_VIP, 80))),
    forwarder("F13 for another host, another address of IPv6",
              other(tcp_packet(CLIENT6, 1, NO_VIP6, 443))),
    forwarder("F13 for another host, another VIP", other(tcp_packet(CLIENT, 1, OTHER_VIP, 80))),
    forwarder("F13 for another host, a tag", other(tcp_packet(CLIENT, 1, NO_VIP, 80), C_TAG)),
    forwarder("F13 broadcast, GUE between others", to(BROADCAST, gue_packet(dip(2), dip(3), TCP))),
)  # fmt: skip


def asked(line: str, name: str, frame: bytes, counter: str = "") -> Row:
    """A line asks whether the destination is a VIP; it is, in a frame for another host."""
    name = f"{line} for another host, {name}"
    return forwarder(name, frame, counter=counter, other_host=True)


EARLY_ROWS = (
    forwarder("F2 for another host, cut in a tag", other(TCP, C_TAG)[:17]),
    forwarder("F3 for another host, ARP", ethernet(bytes(46), destination=BROADCAST, kind=0x0806)),
    forwarder("F3 for another host, three tags", other(TCP, S_TAG, C_TAG, C_TAG)),
    forwarder("F4 for another host, 33 bytes", other(TCP)[:33]),
    forwarder("F4 for another host, version 6", other(TCP)[:14] + b"\x65" + TCP[1:]),
    asked("F5", "ihl 4", other(patched(TCP, 0, b"\x44"))),
    asked("F5", "options cut", other(patched(TCP, 0, b"\x4f"))),
    asked("F5", "ihl 4, a tag", other(patched(TCP, 0, b"\x44"), C_TAG)),
    asked("F6", "cut", other(tcp_packet(CLIENT6, 1, VIP6, 443, headers=[routing()]))[:61],
          "drop_malformed"),
    asked("F6", "seven", other(tcp_packet(CLIENT6, 1, VIP6, 443, headers=SEVEN)),
          "drop_ext_headers"),
    asked("F7", "first", other(icmp_packet(CLIENT, VIP, fragment=0x2000))),
    asked("F7", "later", other(icmp_packet(CLIENT, VIP, fragment=0x0001))),
    asked("F7", "IPv6", other(icmp_packet(CLIENT6, VIP6, headers=[fragment_header(1)]))),
    asked("F11", "19 bytes of TCP", other(TCP[:39])),
    asked("F11", "7 bytes of UDP over IPv6", other(UDP6[:47])),
    asked("F11", "before spoofed", other(SPOOFED[:27])),
    forwarder("F5 for another host, elsewhere",
              other(patched(tcp_packet(CLIENT, 1, NO_VIP, 80), 0, b"\x44")), elsewhere=True),
    forwarder("F6 for another host, elsewhere",
              other(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN)),
              counter="drop_ext_headers", elsewhere=True),
    forwarder("F7 for another host, elsewhere",
              other(icmp_packet(CLIENT, NO_VIP, fragment=0x2000)), elsewhere=True),
    forwarder("F10 for another host, GRE to a VIP", other(ipv4(CLIENT, VIP, 47, bytes(8)))),
    forwarder("F10 for another host, no next header", other(ipv6(CLIENT6, VIP6, 59, b""))),
    forwarder("F11 for another host, elsewhere",
              other(tcp_packet(CLIENT, 1, NO_VIP, 80)[:39]), elsewhere=True),
    forwarder("F13b own DIP as source", other(SPOOFED)),
    forwarder("F13b own DIP as source, broadcast", to(BROADCAST, SPOOFED)),
    forwarder("F13b own DIP as source, tags", other(SPOOFED, S_TAG, C_TAG)),
    forwarder("F13b own DIP as source, options",
              other(udp_packet(dip(1), 40000, VIP, 6080, options=NOPS))),
    forwarder("F13 for another host, own DIP as source", other(SPOOFED_GUE)),
    forwarder("F13 broadcast, own DIP as source", to(BROADCAST, SPOOFED_GUE)),
    forwarder("F13 for another host, own DIP to another", other(gue_packet(dip(1), dip(2), TCP))),
    forwarder("F12 the source MAC is another server's", SERVER_MAC + OTHER + framed(SPOOFED)[12:]),
)  # fmt: skip

ICMP_ROWS = (
    forwarder("I1b echo request", other(icmp_packet(CLIENT, VIP))),
    forwarder("I1b echo request, IPv6", other(icmp_packet(CLIENT6, VIP6))),
    forwarder("I1b echo request, broadcast", to(BROADCAST, icmp_packet(CLIENT, VIP))),
    forwarder("I1b echo request, a tag", other(icmp_packet(CLIENT, VIP), C_TAG)),
    forwarder("I1b an error", other(icmp_error(ROUTER, ANSWER))),
    forwarder("I1b an error, IPv6", other(icmp_error(ROUTER6, ANSWER6))),
    forwarder("I1b an error behind a header",
              other(icmp_error(ROUTER6, ANSWER6, headers=[routing()]))),
    forwarder("I1b an error for this server", other(icmp_error(ROUTER, ANSWER)), here(1)),
    forwarder("I1b before short", other(ipv4(CLIENT, VIP, 1, bytes(7)))),
    forwarder("I1b before another VIP's packet",
              other(icmp_error(ROUTER, tcp_packet(OTHER_VIP, 80, CLIENT, 1), destination=VIP))),
    forwarder("I1b before no service", other(icmp_error(ROUTER, tcp_packet(VIP, 1, CLIENT, 1)))),
    forwarder("I1b neighbour solicitation, multicast",
              to(MACS["multicast of IPv6"], icmp_packet(CLIENT6, VIP6, kind=135))),
    forwarder("I1 for another host, echo to a DIP", other(icmp_packet(CLIENT, dip(2)))),
    forwarder("I1 for another host, an error elsewhere",
              other(icmp_error(ROUTER, ANSWER, destination=NO_VIP))),
    forwarder("I1 for another host, neighbour discovery",
              to(MACS["multicast of IPv6"], icmp_packet(CLIENT6, NO_VIP6, kind=135))),
)  # fmt: skip


def fragments(name: str, *packets: tuple[bytes, str, int | None], here: Config = AT_REST) -> Row:
    """Frames one after another, each with its counter and service."""
    return Row("forwarder", f"4.4 for another host: {name}", here, tuple(
        Packet(*packet) for packet in packets
    ))  # fmt: skip


def passes(packet: bytes, *tags: bytes) -> tuple[bytes, str, int | None]:
    """One for another host."""
    return other(packet, *tags), PASSED, None


def unknown(packet: bytes) -> tuple[bytes, str, int | None]:
    """A later fragment for this host, whose first is not remembered."""
    return framed(packet), UNKNOWN, None


def fragment_rows() -> Iterator[Row]:
    """What is for another host is neither remembered nor dropped."""
    for query, service, v in ((QUERY, DNS, ""), (QUERY6, DNS6, ", IPv6")):
        first, *_, last = fragments_of(query, 24)
        first_sent, last_sent = ((framed(piece), SENT, service) for piece in (first, last))
        yield fragments(f"a first fragment is not remembered{v}", passes(first), unknown(last))
        yield fragments(f"nor with a tag{v}", passes(first, C_TAG), unknown(last))
        yield fragments(f"nothing remembered{v}", passes(last), passes(last, S_TAG, C_TAG))
        yield fragments(f"a later fragment of a datagram that is remembered{v}",
                        first_sent, passes(last), last_sent)  # fmt: skip
        yield fragments(f"a first fragment takes nothing away{v}",
                        first_sent, passes(first), last_sent)  # fmt: skip
    elsewhere = fragments_of(udp_packet(CLIENT, 1, NO_VIP, 53, payload=QUESTION), 24)
    yield fragments("elsewhere", *((other(piece), NO_SERVICE, None) for piece in elsewhere))
    no_service = fragments_of(udp_packet(CLIENT, 1, VIP, 4444, payload=QUESTION), 24)
    yield fragments("of no service", (other(no_service[0]), NO_SERVICE, None),
                    passes(no_service[-1]))  # fmt: skip
    gre = ipv4(CLIENT, VIP, 47, bytes(8), fragment=1)
    yield fragments("a later fragment of GRE", (other(gre), NO_SERVICE, None))
    spoofed = fragments_of(udp_packet(dip(1), 40000, VIP, 6080, payload=QUESTION), 24)
    yield fragments("a spoofed first fragment", passes(spoofed[0]), unknown(spoofed[1]))


ROWS = (*mac_rows(), *SERVICE_ROWS, *EARLY_ROWS, *ICMP_ROWS, *fragment_rows())
