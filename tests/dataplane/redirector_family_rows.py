"""What the redirector must do with packets of either family, and with ICMP errors (6.1)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from tests.dataplane.redirector_rows import (
    ACCEPT,
    BAD_INNER,
    BAD_PROTOCOL,
    NO_VIPS,
    NOPS,
    PADDING,
    SPORT,
    TOO_MANY,
    Row,
    changed,
    gue,
    is_inner,
    tcp,
    tos_is,
)
from tests.dataplane.socket_case import ACK, FAMILIES, PORT, V4, V6, B, C, D, Family
from tests.model.frames import (
    destination_options,
    fragment_header,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ip_packet,
    routing,
    tcp_packet,
)
from tests.model.result import Verdict


def rows_of(family: Family) -> Iterator[Row]:
    """What both families have in common."""
    version = family.version
    rare: dict[str, Any] = (
        {"options": NOPS} if version == 4 else {"headers": (hop_by_hop(), routing())}
    )
    vip, client, no_vip = family.vip, family.client, NO_VIPS[version]
    sent = tcp_packet(vip, PORT, client, SPORT, flags=ACK)
    head = len(sent) - 20

    def error(about: bytes, *hops: IPv4Address, kind: int | None = None) -> bytes:
        return gue(icmp_error(client, about, destination=vip, kind=kind), *hops)

    def row(name: str, frame: bytes, verdict: Verdict, counter: str) -> Row:
        return Row(f"{name}, IPv{version}", frame, verdict, counter)

    foreign = tcp_packet(client, SPORT, no_vip, PORT, flags=ACK)
    yield row("R9 no VIP", gue(foreign), "drop", "drop_not_vip")
    packet = tcp(family=family, **rare)
    yield Row(f"R16 options, IPv{version}", gue(packet), "ok", ACCEPT, is_inner(packet))
    yield Row(
        f"R16 options and padding, IPv{version}", gue(packet, B, C, D, next_hop=3) + PADDING, "ok",
        ACCEPT, is_inner(packet, PADDING),
    )  # fmt: skip
    yield row("R25 options", gue(packet, C), "redirect", "pass_on")
    for protocol, least in ((6, 20), (17, 8), (1 if version == 4 else 58, 8)):
        short = ip_packet(client, vip, protocol, bytes(least - 1))
        yield row(f"R13 protocol {protocol} of {least - 1} bytes", gue(short), "drop", BAD_INNER)
        behind = ip_packet(client, vip, protocol, bytes(least - 1), **rare)
        yield row(
            f"R13 likewise behind options, protocol {protocol}", gue(behind), "drop", BAD_INNER
        )
    yield row("J1 nothing embedded", error(b""), "drop", BAD_INNER)
    yield row("J1 one byte less than a header", error(sent[: head - 1]), "drop", BAD_INNER)
    other = tcp_packet(
        *((V6.vip, PORT, V6.client) if version == 4 else (V4.vip, PORT, V4.client)), 1
    )
    yield row("J1 another family", error(other + bytes(20)), "drop", BAD_INNER)
    yield row("J2 about another's packet", error(foreign), "drop", "drop_not_vip")
    yield row("J4 about an echo reply", error(icmp_packet(vip, client)), "drop", BAD_PROTOCOL)
    yield row("J5 seven bytes of TCP", error(sent[: head + 7]), "drop", BAD_INNER)
    yield row("R16 eight bytes of TCP", error(sent[: head + 8]), "ok", ACCEPT)
    yield row("R25 an error without a socket", error(sent[: head + 8], C), "redirect", "pass_on")
    for kind in (3, 11, 12) if version == 4 else (1, 2, 3, 4):
        yield row(f"R16 error of type {kind}", error(sent, kind=kind), "ok", ACCEPT)
    for inner, outer, wanted in ((2, 3, 3), (1, 3, 3), (3, 3, 3), (0xBA, 1, 0xB9), (0, 2, 0)):
        name = f"RFC 6040 {inner:#x} in {outer}, IPv{version}"
        frame = gue(tcp(tos=inner, family=family), tos=outer)
        check = tos_is(wanted) if version == 6 else (lambda f, w=wanted: f[15] == w)
        yield Row(name, frame, "ok", ACCEPT, check)
    yield row("RFC 6040 CE, Not-ECT", gue(tcp(family=family), tos=3), "drop", "drop_ecn")
    yield row("RFC 6040 CE on the way", gue(tcp(family=family), C, tos=3), "redirect", "pass_on")


LATER_ERROR = tcp_packet(V4.vip, PORT, V4.client, SPORT, fragment=1)
LATER_ERROR6 = tcp_packet(V6.vip, PORT, V6.client, SPORT, headers=[fragment_header(1)])
MANY_ERROR6 = tcp_packet(V6.vip, PORT, V6.client, SPORT, headers=[hop_by_hop()] * 7)
LONG_ERROR6 = tcp_packet(V6.vip, PORT, V6.client, SPORT, headers=[destination_options(256)])

ERROR_ROWS = (
    Row("J1 ihl 4", gue(icmp_error(
        V4.client, changed(tcp_packet(V4.vip, PORT, V4.client, 1), 0, 0x44), destination=V4.vip,
    )), "drop", BAD_INNER),
    Row("J3 options end beyond", gue(icmp_error(
        V4.client, changed(tcp_packet(V4.vip, PORT, V4.client, 1)[:28], 0, 0x4F),
        destination=V4.vip,
    )), "drop", BAD_INNER),
    Row("J3 seven extension headers", gue(icmp_error(V6.client, MANY_ERROR6)), "drop", TOO_MANY),
    Row("J3 extension headers cut", gue(icmp_error(V6.client, LONG_ERROR6[:47])), "drop",
        BAD_INNER),
    Row("J4 about a later fragment", gue(icmp_error(V4.client, LATER_ERROR)), "drop", BAD_PROTOCOL),
    Row("J4 about a later fragment, IPv6", gue(icmp_error(V6.client, LATER_ERROR6)), "drop",
        BAD_PROTOCOL),
    Row("R16 256 bytes of extension headers within as many", gue(icmp_error(
        V6.client, LONG_ERROR6[:304], headers=[destination_options(256)],
    )), "ok", ACCEPT),
    Row("J5 one byte less of those", gue(icmp_error(
        V6.client, LONG_ERROR6[:303], headers=[destination_options(256)],
    )), "drop", BAD_INNER),
)  # fmt: skip

FAMILY_ROWS = (*ERROR_ROWS, *(row for family in FAMILIES for row in rows_of(family)))
