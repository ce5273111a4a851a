"""Fragments: wire.md, sections 4.4 (forwarder) and 6.2 (redirector). What rows remember goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from tests.model import Config, SocketState
from tests.model.frames import (
    C_TAG,
    S_TAG,
    Extension,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    fragments_of,
    framed,
    gue_packet,
    hop_by_hop,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.packets.out import both, has
from tests.packets.redirector import (
    CONNECTED,
    COOKIE,
    FORWARD_SYN,
    KNOWN,
    LISTEN,
    NO_ENTRY,
    UNCONNECTED,
    A,
    B,
    C,
    D,
    gue,
)
from tests.packets.row import NO_COOKIE, NO_SOCKETS_ASKED, Packet, Row, redirector
from tests.packets.world import (
    ACK,
    AT_HOP,
    AT_REST,
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    HTTP,
    HTTP6,
    NO_VIP,
    NO_VIP6,
    NOPS,
    ON_GUE_PORT,
    SYN,
    VIP,
    VIP6,
    config,
    dip,
    here,
    outer_port,
)

QUESTION = bytes(range(60))
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION)
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION)
FIRST, SECOND, LAST = fragments_of(QUERY, 24)
FIRST6, SECOND6, LAST6 = fragments_of(QUERY6, 24)
FAMILIES = (("IPv4", FIRST, LAST, DNS), ("IPv6", FIRST6, LAST6, DNS6))
SENT, CHAINED, MALFORMED, UNKNOWN = (
    *("tx_forward", "tx_forward_chain"),
    *("drop_malformed", "drop_fragment"),
)


def row(name: str, *packets: tuple[bytes, str, int | None], here: Config = AT_REST) -> Row:
    """A row about packets at the forwarder: each with its counter and service."""
    seen = (Packet(framed(packet), counter, service) for packet, counter, service in packets)
    return Row("forwarder", f"4.4 {name}", here, tuple(seen))


def sent(packet: bytes, service: int | None = DNS) -> tuple[bytes, str, int | None]:
    """One that goes on."""
    return packet, SENT, service


def ended(packet: bytes, counter: str, service: int | None = None) -> tuple[bytes, str, int | None]:
    """One that does not."""
    return packet, counter, service


def follow_rows() -> Iterator[Row]:
    """Later fragments go where the first went: addresses, source port and hops are the same."""
    for family, first, later, service in FAMILIES:
        first_hop = dip(1).packed + dip(2).packed + outer_port(service)
        same_way = both(has(26, first_hop), has(50, dip(3).packed))
        name = f"later fragments follow the first, {family}"
        yield Row("forwarder", f"4.4 {name}", here(3, 2), tuple(
            Packet(framed(piece), CHAINED, service, same_way) for piece in (first, later, later)
        ))  # fmt: skip
        yield row(f"nothing remembered, {family}", ended(later, UNKNOWN))


def tcp_rows() -> Iterator[Row]:
    """The same of TCP."""
    packets = (
        ("IPv4", tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(200), flags=ACK), HTTP),
        ("IPv6", tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(200), flags=ACK), HTTP6),
    )
    for family, whole, service in packets:
        first, *later = fragments_of(whole, 64)
        pieces = [(piece, CHAINED, service) for piece in (first, *later)]
        yield row(f"all of TCP, {family}", *pieces, here=here(2, 3))
        yield row(f"after a malformed first, {family}", ended(first[:-1], MALFORMED, service),
                  ended(later[0], UNKNOWN))  # fmt: skip


OTHERS = {
    "source": fragments_of(udp_packet(CLIENT + 1, 40000, VIP, 53, payload=QUESTION), 24),
    "VIP": fragments_of(udp_packet(CLIENT, 40000, VIP + 1, 53, payload=QUESTION), 24),
    "id": fragments_of(QUERY, 24, identification=0x1235),
    "protocol": fragments_of(tcp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION), 24),
    "source, IPv6": fragments_of(udp_packet(CLIENT6 + 1, 40000, VIP6, 53, payload=QUESTION), 24),
    "id, IPv6": fragments_of(QUERY6, 24, identification=0x12345679),
    "top of the id, IPv6": fragments_of(QUERY6, 24, identification=0x02345678),
}


def later_of(number: int, version: int, offset: int = 1) -> bytes:
    """A later fragment of a protocol."""
    if version == 4:
        return ipv4(CLIENT, VIP, number, bytes(8), fragment=offset)
    return ipv6(CLIENT6, VIP6, number, bytes(8), headers=[fragment_header(offset)])


def udp_first(length: int | None = None, source_port: int = 40000, source: Any = CLIENT) -> bytes:
    """A first fragment of 44 bytes."""
    datagram = source_port.to_bytes(2, "big") + QUERY[22:44]
    return ipv4(source, VIP, 17, datagram, fragment=0x2000, total_length=length)


def udp_later(payload: bytes, **fields: Any) -> bytes:
    """A later fragment of the same datagram."""
    return ipv4(CLIENT, VIP, 17, payload, fragment=6, **fields)


def piece6(offset: int, payload: bytes, *, more: bool) -> bytes:
    """A fragment whose fragment header is the third one."""
    headers = [hop_by_hop(), routing(16), fragment_header(offset, more=more)]
    return ipv6(CLIENT6, VIP6, 17, payload, headers=headers)


def behind_rows(name: str, headers: list[Extension]) -> Iterator[Row]:
    """The key has the fragment header's number, the flow the upper layer's."""
    whole = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION, headers=headers)
    yield row(f"{name} behind the fragment header",
              *(sent(piece, DNS6) for piece in fragments_of(whole, 48)))  # fmt: skip


WHOLE_TCP = tcp_packet(CLIENT, 40000, VIP, 80, payload=QUESTION)
FRAGMENTS_OF_SPOOFED = fragments_of(udp_packet(A, 40000, VIP, 6080, payload=QUESTION), 24)
AGAIN = fragments_of(udp_packet(CLIENT, 1, VIP, 53, payload=QUESTION), 24)[0]
NO_SERVICE = fragments_of(udp_packet(CLIENT, 1, VIP, 4444, payload=QUESTION), 24)
WITH_OPTIONS = udp_packet(CLIENT, 40000, VIP, 53, payload=QUESTION, options=NOPS)


def first_with(chain: tuple[int, ...], counter: str) -> Row:
    """One that a line behind F14 decides is remembered."""
    return Row("forwarder", f"4.4 remembered although {counter}", AT_REST, (
        Packet(framed(FIRST), counter, DNS, config=here(*chain)), Packet(framed(LAST), SENT, DNS),
    ))  # fmt: skip


FORWARDER_ROWS: tuple[Row, ...] = (
    *follow_rows(),
    *tcp_rows(),
    row("elsewhere", *((piece, "pass_no_service", None) for piece in (
        *fragments_of(udp_packet(CLIENT, 1, NO_VIP, 53, payload=QUESTION), 24),
        *fragments_of(udp_packet(CLIENT6, 1, NO_VIP6, 53, payload=QUESTION), 24)))),
    *(row(f"every part of the key counts: {name}", sent(FIRST), sent(FIRST6, DNS6),
          ended(pieces[-1], UNKNOWN)) for name, pieces in OTHERS.items()),
    Row("forwarder", "4.4 the latest first fragment counts", AT_REST, tuple(
        Packet(framed(piece), SENT, DNS, has(34, outer_port(DNS, port)))
        for piece, port in ((FIRST, 40000), (AGAIN, 1), (LAST, 1)))),
    row("whole packets are not remembered", sent(QUERY), sent(QUERY6, DNS6),
        sent(udp_packet(CLIENT6, 40000, VIP6, 53, headers=[fragment_header()]), DNS6),
        ended(LAST, UNKNOWN), ended(LAST6, UNKNOWN)),
    row("a first fragment of 27 bytes", ended(udp_first(27), MALFORMED, DNS), ended(LAST, UNKNOWN)),
    row("a first fragment of one byte more than there is", ended(udp_first(45), MALFORMED, DNS),
        ended(LAST, UNKNOWN)),
    row("a first fragment of 28 bytes", sent(udp_first(28)), sent(LAST)),
    row("of no service", ended(NO_SERVICE[0], "pass_no_service"),
        *(ended(piece, UNKNOWN) for piece in NO_SERVICE[1:])),
    first_with((), "drop_no_bucket"),
    first_with((9,), "drop_no_dip"),
    first_with((1,), "pass_local"),
    Row("forwarder", "4.4 a later fragment looks up its service anew", AT_REST, (
        Packet(framed(FIRST), SENT, DNS),
        Packet(framed(LAST), "pass_no_service",
               config=replace(AT_REST, services=AT_REST.services[:1])))),
    *(row(f"later fragment of protocol {number}, IPv{version}",
          ended(later_of(number, version),
                "pass_vip_icmp" if (number, version) in {(1, 4), (58, 6)} else "pass_no_service"))
      for number in (1, 47, 58) for version in (4, 6)),
    *(row(f"an extension header's number, {number}", ended(later_of(number, 6), UNKNOWN),
          ended(later_of(number, 4), "pass_no_service")) for number in (0, 43, 44, 51, 60)),
    *behind_rows("one header", [destination_options()]),
    *behind_rows("two headers", [authentication(), hop_by_hop()]),
    row("headers before the fragment header", sent(piece6(0, QUERY6[40:64], more=True), DNS6),
        sent(piece6(3, b"x", more=False), DNS6),
        ended(piece6(3, b"", more=False), MALFORMED, DNS6)),
    row("F14 wants a byte behind a later fragment's headers", sent(FIRST),
        ended(udp_later(b""), MALFORMED, DNS), sent(udp_later(b"x")),
        ended(udp_later(b"", options=NOPS), MALFORMED, DNS),
        ended(udp_later(b"") + b"x", MALFORMED, DNS)),
    Row("forwarder", "4.4 options and tags do not matter", AT_REST, tuple(
        Packet(framed(piece, tags=[S_TAG, C_TAG]), SENT, DNS)
        for piece in fragments_of(WITH_OPTIONS, 24))),
    row("a spoofed first fragment is dropped alone",
        ended(FRAGMENTS_OF_SPOOFED[0], "drop_spoofed"), ended(FRAGMENTS_OF_SPOOFED[1], UNKNOWN)),
    Row("forwarder", "4.4 F12 is not asked of a later fragment", config(1, (2,)), (
        Packet(framed(FRAGMENTS_OF_SPOOFED[0]), SENT, ON_GUE_PORT, config=config(4, (2,))),
        Packet(framed(FRAGMENTS_OF_SPOOFED[1]), SENT, ON_GUE_PORT))),
    row("TCP in pieces of 24 bytes", *(sent(piece, HTTP) for piece in fragments_of(WHOLE_TCP, 24))),
    row("TCP's first piece of 16 bytes", ended(fragments_of(WHOLE_TCP, 16)[0], MALFORMED)),
)  # fmt: skip


ACCEPTED, LAST_HOP, PASSED = "accept_udp_socket", "accept_last_hop", "pass_on"
FORGOTTEN = "drop_inner_fragment"


def arrives(
    inner: bytes,
    counter: str,
    state: SocketState | None = NO_SOCKETS_ASKED,
    *,
    hops: tuple[IPv4Address, ...] = (C,),
    config: Config | None = None,
    **fields: Any,
) -> Packet:
    """A fragment that comes with one hop left by default, C."""
    frame = ethernet(gue_packet(A, B, inner, hops, **fields))
    return Packet(frame, counter, state=state, config=config)


def decided(name: str, *packets: Packet, here: Config = AT_HOP) -> Row:
    """A row of section 6.2."""
    return Row("redirector", f"6.2 {name}", here, packets)


def udp_rows(family: str, first: bytes, later: bytes) -> Iterator[Row]:
    """A decision holds for later fragments; without hops left nothing is remembered or asked."""
    yield decided(f"without hops left, {family}", arrives(later, LAST_HOP, hops=()),
                  arrives(first, LAST_HOP, hops=()),
                  arrives(later, LAST_HOP, hops=(C, D), next_hop=2),
                  arrives(later, FORGOTTEN))  # fmt: skip
    for state in (CONNECTED, UNCONNECTED, SocketState.NONE):
        counter = ACCEPTED if state is CONNECTED else PASSED
        yield decided(f"{state.name}, {family}", arrives(later, FORGOTTEN),
                      arrives(first, counter, state), arrives(later, counter),
                      arrives(later, counter, hops=(D, C)))  # fmt: skip


def tcp_decision(
    name: str, flags: int, state: SocketState, counter: str, private_flags: int = 0
) -> Row:
    """A decision about TCP."""
    whole = tcp_packet(CLIENT, 40000, VIP, 80, flags=flags, payload=QUESTION)
    first, later, *_ = fragments_of(whole, 32)
    row = decided(name, arrives(first, counter, state, private_flags=private_flags),
                  arrives(later, counter))  # fmt: skip
    return replace(row, not_for=NO_COOKIE) if state is COOKIE else row


SHORT = ipv4(CLIENT, VIP, 17, QUERY[20:27], fragment=0x2000)
BEHIND = udp_packet(CLIENT6, 40000, VIP6, 53, payload=QUESTION, headers=[destination_options()])
FIRST_BEHIND, LATER_BEHIND, *_ = fragments_of(BEHIND, 32)
OUTER_LENGTH = 40 + len(LAST)
LATER_OPTION = ipv6(CLIENT6, VIP6, 60, bytes(8), headers=[fragment_header(1)])
REDIRECTOR_ROWS: tuple[Row, ...] = (
    redirector("R12 later fragment", gue(LAST), NO_SOCKETS_ASKED),
    redirector("R12 later fragment of an extension header", gue(LATER_OPTION), NO_SOCKETS_ASKED),
    redirector("R12 later fragment without a byte", gue(ipv4(CLIENT, VIP, 17, b"", fragment=1)),
               NO_SOCKETS_ASKED),
    *(row for family, first, later, _ in FAMILIES for row in udp_rows(family, first, later)),
    tcp_decision("SYN", SYN, KNOWN, "accept_syn"),
    tcp_decision("SYN under forward_syn", SYN, KNOWN, PASSED, FORWARD_SYN),
    tcp_decision("ACK, known", ACK, KNOWN, "accept_socket"),
    tcp_decision("ACK with a cookie", ACK, COOKIE, "accept_syncookie"),
    tcp_decision("ACK, listening", ACK, LISTEN, PASSED),
    decided("R24 is asked of each fragment",
            arrives(FIRST, "drop_too_big", SocketState.NONE, config=config(2, mtu=OUTER_LENGTH)),
            arrives(LAST, PASSED, config=config(2, mtu=OUTER_LENGTH)),
            arrives(LAST, "drop_too_big", config=config(2, mtu=OUTER_LENGTH - 1))),
    decided("R23 is asked of each fragment", arrives(FIRST, PASSED, SocketState.NONE),
            arrives(LAST, "drop_no_dip", config=NO_ENTRY), arrives(LAST, PASSED)),
    decided("ECN is copied of each fragment", arrives(FIRST, ACCEPTED, CONNECTED),
            arrives(LAST, "drop_ecn", tos=3), arrives(LAST, ACCEPTED)),
    decided("a decision to accept is remembered although drop_ecn",
            arrives(FIRST, "drop_ecn", CONNECTED, tos=3), arrives(LAST, ACCEPTED)),
    decided("a malformed first is not remembered", arrives(SHORT, "drop_inner_malformed"),
            arrives(LAST, FORGOTTEN)),
    decided("an extension header's number", arrives(LATER_BEHIND, FORGOTTEN),
            arrives(FIRST_BEHIND, ACCEPTED, CONNECTED), arrives(LATER_BEHIND, ACCEPTED)),
    decided("whole packets are not remembered", arrives(QUERY, ACCEPTED, CONNECTED),
            arrives(LAST, FORGOTTEN)),
)  # fmt: skip
