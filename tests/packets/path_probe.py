"""A server's probe of the path to another: wire.md, R9 and section 7.2; and what is almost one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from tests.model import Address, Service, host
from tests.model.frames import (
    C_TAG,
    ethernet,
    framed,
    gue_packet,
    icmp_error,
    icmp_packet,
    ipv4,
    ipv6,
    tcp_packet,
    udp_packet,
)
from tests.packets.redirector import FORWARD_SYN, PADDING, A, B, C
from tests.packets.row import NO_SOCKETS_ASKED, Row, redirector
from tests.packets.world import (
    AT_HOP,
    CLIENT,
    CLIENT6,
    NO_VIP,
    NO_VIP6,
    NOPS,
    PROBER,
    STRANGER,
    SYN,
    VIP,
    config,
    patched,
)

ACCEPTED, NOT_VIP = "accept_path_probe", "drop_not_vip"
SMALL, FULL_SIZE, LEAST = 64, 1500 - 36, 28
LOOPBACK = IPv4Address("127.0.0.1")


def echo(
    length: int = SMALL, source: Address = A, destination: Address = B, **fields: Any
) -> bytes:
    """An echo request of this total length."""
    head = LEAST + len(fields.get("options", b""))
    return icmp_packet(source, destination, payload=bytes(length - head), **fields)


PROBE = echo()


def accepted(name: str, packet: bytes, inner: bytes, padding: bytes = b"") -> Row:
    """A probe: the inner packet comes out, unchanged."""
    out = ethernet(inner) + padding
    return redirector(f"R9 a path probe{name}", packet + padding, NO_SOCKETS_ASKED,
                      counter=ACCEPTED, out=out)  # fmt: skip


def probe(name: str, inner: bytes = PROBE, **fields: Any) -> Row:
    """One that A sends."""
    return accepted(name, gue_packet(A, B, inner, **fields), inner)


def refused(name: str, packet: bytes) -> Row:
    """Almost one."""
    return redirector(f"R9 no path probe: {name}", packet, NO_SOCKETS_ASKED, counter=NOT_VIP)


def beside(name: str, inner: bytes, *hops: IPv4Address, **fields: Any) -> Row:
    """What A sends is almost one."""
    return refused(name, gue_packet(A, B, inner, hops, **fields))


PROBE_ROWS = (
    probe(""),
    probe(" of full size", echo(FULL_SIZE)),
    probe(" of 28 bytes", echo(LEAST)),
    probe(" of 29 bytes", echo(LEAST + 1)),
    accepted(" with padding", gue_packet(A, B, PROBE), PROBE, PADDING),
    accepted(" of a prober", gue_packet(PROBER, B, echo(source=PROBER)), echo(source=PROBER)),
    accepted(" from itself", gue_packet(B, B, echo(source=B)), echo(source=B)),
    probe(" from any port", source_port=1),
    probe(" without DF", echo(fragment=0)),
    probe(" with the reserved bit", echo(fragment=0xC000)),
    probe(" under forward_syn", private_flags=FORWARD_SYN),
    probe(" with any identification and sequence", echo(word=0xFFFFFFFF)),
    probe(" with a TOS", echo(tos=0xB8)),
    probe(" with a wrong checksum of ICMP", patched(PROBE, 22, b"\xab\xcd")),
    probe(" with a wrong checksum of IP", patched(PROBE, 10, b"\xab\xcd")),
    probe(" with TTL 0", patched(PROBE, 8, b"\x00")),
    probe(" with a wrong outer checksum", outer_checksum=0xBEEF),
    redirector("R9 a path probe at a server whose entry is missing", gue_packet(A, B, PROBE),
               NO_SOCKETS_ASKED, config(2, no_entry=frozenset({1, 2})), counter=ACCEPTED),
    redirector("R9 a path probe without services", gue_packet(A, B, PROBE), NO_SOCKETS_ASKED,
               replace(AT_HOP, services=()), counter=ACCEPTED),
    redirector("R9 a path probe, RFC 6040", gue_packet(A, B, echo(tos=2), tos=3),
               NO_SOCKETS_ASKED, counter=ACCEPTED, out=ethernet(echo(tos=3))),
    redirector("6.3 a path probe, RFC 6040", gue_packet(A, B, PROBE, tos=3), NO_SOCKETS_ASKED,
               counter="drop_ecn"),
)  # fmt: skip

BESIDE_ROWS = (
    beside("a hop is left", PROBE, C),
    beside("the last of two hops", PROBE, C, next_hop=1),
    beside("the last of four hops", PROBE, A, C, IPv4Address("10.0.0.4"), next_hop=3),
    beside("from another DIP than the sender", echo(source=C)),
    beside("from this server's own DIP", echo(source=B)),
    beside("from a client", echo(source=CLIENT)),
    beside("from a stranger", echo(source=STRANGER)),
    beside("from a VIP", echo(source=VIP)),
    beside("from a prober, sent by a DIP", echo(source=PROBER)),
    beside("from 0.0.0.0", echo(source=IPv4Address(0))),
    refused("from a DIP, sent by a prober", gue_packet(PROBER, B, PROBE)),
    refused("from a DIP, sent by another", gue_packet(C, B, PROBE)),
    beside("to another DIP", echo(destination=C)),
    beside("to the sender", echo(destination=A)),
    beside("to no VIP", echo(destination=NO_VIP)),
    beside("to loopback", echo(destination=LOOPBACK)),
    beside("to everybody", echo(destination=IPv4Address("255.255.255.255"))),
    *(beside(f"byte {at} of the destination differs",
             patched(PROBE, at, bytes([PROBE[at] ^ 0x80]))) for at in range(16, 20)),
    *(beside(f"byte {at} of the source differs",
             patched(PROBE, at, bytes([PROBE[at] ^ 0x80]))) for at in range(12, 16)),
    beside("options", echo(options=NOPS)),
    beside("a first fragment", echo(fragment=0x2000)),
    beside("a first fragment with DF", echo(fragment=0x6000)),
    beside("a later fragment", echo(fragment=0x0001)),
    beside("a far later fragment", echo(fragment=0x1000)),
    *(beside(f"type {kind}", echo(kind=kind)) for kind in (0, 3, 5, 9, 10, 13, 17, 128)),
    beside("an error about a packet of this server",
           icmp_error(A, udp_packet(B, 6080, A, 6080))),
    beside("code 1", echo(code=1)),
    beside("code 255", echo(code=255)),
    beside("27 bytes", ipv4(A, B, 1, PROBE[20:27])),
    beside("20 bytes", ipv4(A, B, 1, b"")),
    refused("27 bytes and padding", gue_packet(A, B, ipv4(A, B, 1, PROBE[20:27])) + PROBE[27:]),
    *(beside(f"protocol {number}", ipv4(A, B, number, PROBE[20:])) for number in (0, 2, 6, 17, 58)),
    beside("TCP", tcp_packet(A, 40000, B, 80, flags=SYN)),
    beside("UDP to the GUE port", gue_packet(A, B, b"")),
    beside("IPv6", icmp_packet(CLIENT6, NO_VIP6)),
    beside("IPv6 that looks like one from ICMP on",
           ipv6(CLIENT6, NO_VIP6, 1, PROBE[20:], hop_limit=1)),
    redirector("R4 a stranger's path probe", gue_packet(STRANGER, B, echo(source=STRANGER))),
    redirector("R4 a stranger's path probe in a DIP's name", gue_packet(STRANGER, B, PROBE)),
    redirector("R4 a VIP's path probe", gue_packet(VIP, B, echo(source=VIP))),
    redirector("R6 a path probe with an unknown hop", gue_packet(A, B, PROBE, [STRANGER])),
    redirector("R7 a path probe and a byte more", gue_packet(A, B, PROBE + b"\0")),
    redirector("R7 a path probe, total length one more", gue_packet(A, B, PROBE[:-1])),
    redirector("R7 a path probe, ihl 4", gue_packet(A, B, patched(PROBE, 0, b"\x44"))),
    redirector("R8 a path probe said to be IPv6", gue_packet(A, B, PROBE, proto=41)),
    redirector("R16 an echo request to a DIP that is a VIP", gue_packet(A, B, PROBE),
               NO_SOCKETS_ASKED,
               replace(AT_HOP, services=(*AT_HOP.services, Service(host(B), 6, 80, "web")))),
    redirector("R1 an echo request to the DIP, without a wrap", PROBE),
    redirector("R1 a path probe for another DIP", gue_packet(A, C, echo(destination=C))),
    redirector("R1 a path probe behind a tag", framed(gue_packet(A, B, PROBE), tags=[C_TAG])[14:],
               kind=0x8100),
)  # fmt: skip

ROWS = (*PROBE_ROWS, *BESIDE_ROWS)
