"""What the redirector must do with single frames: name, frame, verdict, counter.

The frame that comes out is the model's; a row says what it must be where that is plain to see.
Lines are those of docs/wire.md, section 6. No server has a socket here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from tests.dataplane.socket_case import (
    ACK,
    FIN,
    MAC,
    OWN,
    PORT,
    RST,
    SYN,
    V4,
    V6,
    B,
    C,
    D,
    Family,
    server_config,
)
from tests.model import Address, Config
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    Extension,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    gue_packet,
    hop_by_hop,
    icmp_packet,
    ip_packet,
    ipv4,
    ipv6,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.model.result import Verdict

STRANGER = IPv4Address("10.7.7.7")
BARE = IPv4Address("10.0.0.9")
PROBER = IPv4Address("10.0.1.1")
NO_VIPS: dict[int, Address] = {4: IPv4Address("192.0.2.11"), 6: IPv6Address("2001:db8::11")}
SPORT = 40000
NOPS = bytes((1, 1, 1, 1))
PADDING = bytes(6)

ACCEPT = "accept_last_hop"
BAD_GUE = "drop_gue_malformed"
BAD_INNER = "drop_inner_malformed"
BAD_PROTOCOL = "drop_inner_protocol"
TOO_MANY = "drop_inner_ext_headers"


def config() -> Config:
    """A server that knows a DIP without an entry, and a prober."""
    made = server_config()
    return replace(made, known=made.known | {BARE}, probers=frozenset({PROBER}))


@dataclass(frozen=True)
class Row:
    """One packet and what must become of it."""

    name: str
    frame: bytes
    verdict: Verdict
    counter: str
    check: Callable[[bytes], bool] | None = None


def gue(
    inner: bytes,
    *hops: IPv4Address,
    source: IPv4Address = B,
    to: IPv4Address = OWN,
    **fields: int,
) -> bytes:
    return ethernet(gue_packet(source, to, inner, hops, **fields))  # type: ignore[arg-type]


def tcp(
    flags: int = ACK,
    *,
    family: Family = V4,
    payload: bytes = b"",
    tos: int = 0,
    options: bytes = b"",
    headers: tuple[Extension, ...] = (),
    fragment: int = 0x4000,
) -> bytes:
    return tcp_packet(
        *(family.client, SPORT, family.vip, PORT),
        flags=flags,
        payload=payload,
        tos=tos,
        options=options,
        headers=headers,
        fragment=fragment,
    )


def udp(family: Family = V4) -> bytes:
    return udp_packet(family.client, SPORT, family.vip, 53, payload=b"hello")


def changed(packet: bytes, at: int, *values: int) -> bytes:
    """A packet with some bytes changed."""
    made = bytearray(packet)
    made[at : at + len(values)] = bytes(values)
    return bytes(made)


def hops_of(frame: bytes) -> list[IPv4Address]:
    """The destination and the hop list."""
    listed = [IPv4Address(frame[50 + 4 * n : 54 + 4 * n]) for n in range(frame[49])]
    return [IPv4Address(frame[30:34]), *listed]


def is_inner(packet: bytes, behind: bytes = b"") -> Callable[[bytes], bool]:
    """The packet is out: right EtherType, not a byte changed."""
    kind = bytes.fromhex("86dd" if packet[0] >> 4 == 6 else "0800")
    return lambda frame: frame[12:] == kind + packet + behind


def tos_is(tos: int) -> Callable[[bytes], bool]:
    return lambda frame: (int.from_bytes(frame[14:16], "big") >> 4 & 0xFF) == tos


TUNNEL_ROWS = (
    Row("R1 TCP", ethernet(tcp()), "ok", "ok_not_gue"),
    Row("R1 IPv6", ethernet(tcp(family=V6), kind=0x86DD), "ok", "ok_not_gue"),
    Row("R1 ARP", ethernet(bytes(46), kind=0x0806), "ok", "ok_not_gue"),
    Row("R1 other port", gue(tcp(), gue_port=6081), "ok", "ok_not_gue"),
    Row("R1 to another DIP", gue(tcp(), to=C), "ok", "ok_not_gue"),
    Row("R1 first fragment", gue(tcp(), fragment=0x2000), "ok", "ok_not_gue"),
    Row("R1 later fragment", gue(tcp(), fragment=1), "ok", "ok_not_gue"),
    Row("R1 reserved bit is no fragment", gue(tcp(), fragment=0x8000), "ok", ACCEPT),
    Row(
        "R1 outer options", ethernet(gue_packet(B, OWN, tcp(), options=NOPS)), "ok", "ok_not_gue",
    ),
    Row("R1 frame of 41 bytes", gue(tcp())[:41], "ok", "ok_not_gue"),
    Row(
        "R1 two tags, of which one stays in the frame",
        ethernet(gue_packet(B, OWN, tcp()), tags=(S_TAG, C_TAG)), "ok", "ok_not_gue",
    ),
    Row("R2 total length 35", gue(tcp(), total_length=35), "drop", BAD_GUE),
    Row("R2 total length past the end", gue(tcp(), total_length=77), "drop", BAD_GUE),
    Row("R2 UDP length", gue(tcp(), udp_length=55), "drop", BAD_GUE),
    Row("R2 UDP checksum", gue(tcp(), udp_checksum=1), "drop", BAD_GUE),
    Row("R3 variant 1", gue(tcp(), variant=1), "drop", BAD_GUE),
    Row("R3 C bit", gue(tcp(), control=1), "drop", BAD_GUE),
    Row("R3 GUE flags", gue(tcp(), gue_flags=0x8000), "drop", BAD_GUE),
    Row("R3 private version", gue(tcp(), private_version=1), "drop", BAD_GUE),
    Row("R3 last_hop_gre", gue(tcp(), private_flags=4), "drop", BAD_GUE),
    Row("R3 unknown flag 2", gue(tcp(), private_flags=2), "drop", BAD_GUE),
    Row("R3 unknown flag 1", gue(tcp(), private_flags=1), "drop", BAD_GUE),
    Row("R3 reserved", gue(tcp(), reserved=1), "drop", BAD_GUE),
    Row("R3 four hops", gue(tcp(), C, D, C, D), "drop", BAD_GUE),
    Row("R3 hlen", gue(tcp(), C, hlen=1), "drop", BAD_GUE),
    Row("R3 next_hop beyond the list", gue(tcp(), C, next_hop=2), "drop", BAD_GUE),
    Row("R3 beyond three hops", gue(tcp(), B, C, D, next_hop=4), "drop", BAD_GUE),
    Row("R3 list longer than the packet", gue(b"", hop_count=1), "drop", BAD_GUE),
    Row("R3 proto 17", gue(tcp(), proto=17), "drop", BAD_GUE),
    Row("R4 unknown source", gue(tcp(), source=STRANGER), "drop", "drop_unknown_source"),
    Row("R4 a prober may", gue(tcp(SYN), source=PROBER), "ok", ACCEPT),
    Row("R4 a prober may, IPv6", gue(tcp(SYN, family=V6), source=PROBER), "ok", ACCEPT),
    Row("R5 loop", gue(tcp(), C, OWN), "drop", "drop_hop_loop"),
    Row("R5 loop, IPv6", gue(tcp(family=V6), C, OWN), "drop", "drop_hop_loop"),
    Row("R5 before R6", gue(tcp(), STRANGER, OWN), "drop", "drop_hop_loop"),
    Row("R5 a hop behind us is no loop", gue(tcp(), OWN, C, next_hop=2), "ok", ACCEPT),
    Row("R5 loop at the third", gue(tcp(), C, D, OWN), "drop", "drop_hop_loop"),
    Row("R6 unknown third hop", gue(tcp(), C, D, STRANGER), "drop", "drop_unknown_hop"),
    Row("R6 unknown hop", gue(tcp(), C, STRANGER), "drop", "drop_unknown_hop"),
    Row("R6 a prober is no hop", gue(tcp(), PROBER), "drop", "drop_unknown_hop"),
    Row("R6 an unknown hop behind us", gue(tcp(), STRANGER, next_hop=1), "ok", ACCEPT),
    Row("R6 hop 0.0.0.0", gue(tcp(), IPv4Address(0)), "drop", "drop_unknown_hop"),
)  # fmt: skip

INNER_ROWS = (
    Row("R7 nothing inside", gue(b""), "drop", BAD_INNER),
    Row("R7 19 bytes", gue(tcp()[:19]), "drop", BAD_INNER),
    Row("R7 version 6", gue(changed(tcp(), 0, 0x65), proto=4), "drop", BAD_INNER),
    Row("R7 ihl 4", gue(changed(tcp(), 0, 0x44)), "drop", BAD_INNER),
    Row("R7 total length", gue(changed(tcp(), 2, 0, 41)), "drop", BAD_INNER),
    Row("R7 ihl beyond the packet", gue(changed(tcp(), 0, 0x4F)), "drop", BAD_INNER),
    Row("R7 IPv6 that says it is IPv4", gue(tcp(family=V6), proto=4), "drop", BAD_INNER),
    Row("R8 nothing inside", gue(b"", proto=41), "drop", BAD_INNER),
    Row("R8 39 bytes", gue(tcp(family=V6)[:39]), "drop", BAD_INNER),
    Row("R8 version 4", gue(changed(tcp(family=V6), 0, 0x40), proto=41), "drop", BAD_INNER),
    Row("R8 payload length", gue(changed(tcp(family=V6), 4, 0, 21)), "drop", BAD_INNER),
    Row("R8 IPv4 that says it is IPv6", gue(tcp(payload=bytes(40)), proto=41), "drop", BAD_INNER),
    Row(
        "R9 GUE in GUE", gue(gue_packet(B, OWN, tcp())), "drop", "drop_not_vip",
    ),
    Row("R9 before R10", gue(
        ipv6(V6.client, NO_VIPS[6], 6, b"", headers=[hop_by_hop()] * 7),  # type: ignore[arg-type]
    ), "drop", "drop_not_vip"),
    Row(
        "R10 six headers, 256 bytes",
        gue(tcp(family=V6, headers=(
            hop_by_hop(), routing(), destination_options(200), authentication(24),
            fragment_header(), destination_options(),
        ))), "ok", ACCEPT,
    ),
    Row("R10 seven headers", gue(tcp(family=V6, headers=(hop_by_hop(),) * 7)), "drop", TOO_MANY),
    Row("R10 264 bytes", gue(tcp(family=V6, headers=(routing(256), routing()))), "drop", TOO_MANY),
    Row(
        "R10 truncated", gue(ipv6(V6.client, V6.vip, 6, b"", headers=[  # type: ignore[arg-type]
            hop_by_hop(), Extension(60, b"\x00"),
        ])), "drop", BAD_INNER,
    ),
    Row(
        "R10 padding behind the packet is no header",
        gue(ipv6(V6.client, V6.vip, 60, b"")) + bytes(8),  # type: ignore[arg-type]
        "drop", BAD_INNER,
    ),
    Row(
        "R10 two fragment headers",
        gue(tcp(family=V6, headers=(fragment_header(), fragment_header()))), "drop", BAD_INNER,
    ),
    Row("R11 first fragment of ICMP", gue(icmp_packet(V4.client, V4.vip, fragment=0x2000)), "drop",
        BAD_PROTOCOL),
    Row("R11 later fragment of ICMP", gue(icmp_packet(V4.client, V4.vip, fragment=1)), "drop",
        BAD_PROTOCOL),
    Row("R11 first fragment of ICMPv6", gue(icmp_packet(
        V6.client, V6.vip, headers=[fragment_header(more=True)],
    )), "drop", BAD_PROTOCOL),
    Row("R11 later fragment of ICMPv6", gue(icmp_packet(
        V6.client, V6.vip, headers=[fragment_header(1)],
    )), "drop", BAD_PROTOCOL),
    Row("R12 later fragment, IPv4", gue(tcp(fragment=1)), "ok", ACCEPT, is_inner(tcp(fragment=1))),
    Row("R12 later fragment of an extension header", gue(ip_packet(
        V6.client, V6.vip, 60, bytes(8), headers=[fragment_header(1)],
    )), "ok", ACCEPT),
    Row("R12 later fragment without a byte", gue(
        ipv4(V4.client, V4.vip, 17, b"", fragment=1),  # type: ignore[arg-type]
    ), "ok", ACCEPT),
    Row("6.2 later fragment, nothing remembered", gue(tcp(fragment=0x2001), C), "drop",
        "drop_inner_fragment"),
    Row("6.2 likewise, IPv6", gue(tcp(family=V6, headers=(fragment_header(1),)), C), "drop",
        "drop_inner_fragment"),
    Row("R13 data offset 4", gue(changed(tcp(), 32, 0x40)), "drop", BAD_INNER),
    Row("R13 data offset beyond", gue(changed(tcp(), 32, 0x60)), "drop", BAD_INNER),
    Row("R13 data offset 4, IPv6", gue(changed(tcp(family=V6), 52, 0x40)), "drop", BAD_INNER),
    Row("R13 data offset beyond, IPv6", gue(changed(tcp(family=V6), 52, 0x60)), "drop", BAD_INNER),
    Row("R13 data offset beyond, behind options", gue(changed(tcp(options=NOPS), 36, 0x60)), "drop",
        BAD_INNER),
    Row("R14 GRE", gue(ipv4(V4.client, V4.vip, 47, bytes(20))), "drop",  # type: ignore[arg-type]
        BAD_PROTOCOL),
    Row("R14 no next header", gue(ip_packet(V6.client, V6.vip, 59, bytes(8))), "drop",
        BAD_PROTOCOL),
    Row("R14 ICMPv6 in IPv4", gue(ip_packet(V4.client, V4.vip, 58, b"\x80" + bytes(7))), "drop",
        BAD_PROTOCOL),
    Row("R14 ICMP in IPv6", gue(ip_packet(V6.client, V6.vip, 1, b"\x08" + bytes(7))), "drop",
        BAD_PROTOCOL),
    Row("R14 echo reply", gue(icmp_packet(V4.client, V4.vip, kind=0)), "drop", BAD_PROTOCOL),
    Row("R14 type 8 code 1", gue(icmp_packet(V4.client, V4.vip, code=1)), "drop", BAD_PROTOCOL),
    Row("R14 redirect", gue(icmp_packet(V4.client, V4.vip, kind=5)), "drop", BAD_PROTOCOL),
    Row("R14 ICMPv6 echo reply", gue(icmp_packet(V6.client, V6.vip, kind=129)), "drop",
        BAD_PROTOCOL),
    Row("R14 type 128 code 1", gue(icmp_packet(V6.client, V6.vip, code=1)), "drop", BAD_PROTOCOL),
    Row("R14 neighbour advertisement", gue(icmp_packet(V6.client, V6.vip, kind=136)), "drop",
        BAD_PROTOCOL),
)  # fmt: skip

DECISION_ROWS = (
    Row("R16 last hop", gue(tcp()), "ok", ACCEPT, is_inner(tcp())),
    Row("R16 last hop, IPv6", gue(tcp(family=V6)), "ok", ACCEPT, is_inner(tcp(family=V6))),
    Row("R16 last of two", gue(tcp(), C, D, next_hop=2), "ok", ACCEPT, is_inner(tcp())),
    Row("R16 last of four", gue(tcp(), B, C, D, next_hop=3), "ok", ACCEPT, is_inner(tcp())),
    Row("R16 last of four, IPv6", gue(tcp(family=V6), B, C, D, next_hop=3), "ok", ACCEPT,
        is_inner(tcp(family=V6))),
    Row("R16 UDP", gue(udp()), "ok", ACCEPT),
    Row("R16 forward_syn does not matter", gue(tcp(SYN), private_flags=8), "ok", ACCEPT),
    Row("R16 padding stays", gue(tcp()) + PADDING, "ok", ACCEPT, is_inner(tcp(), PADDING)),
    Row("R16 padding stays, IPv6", gue(tcp(family=V6)) + PADDING, "ok", ACCEPT,
        is_inner(tcp(family=V6), PADDING)),
    Row("R17 echo", gue(icmp_packet(V4.client, V4.vip), C), "ok", "accept_echo"),
    Row("R18 SYN", gue(tcp(SYN), C), "ok", "accept_syn"),
    Row("R18 SYN, three hops left", gue(tcp(SYN), B, C, D), "ok", "accept_syn", is_inner(tcp(SYN))),
    Row("R18 SYN with ECE and CWR", gue(tcp(SYN | 0xC0), C), "ok", "accept_syn"),
    Row("R18 SYN+FIN is a SYN", gue(tcp(SYN | FIN), C), "ok", "accept_syn"),
    Row("R18 SYN-ACK is none", gue(tcp(SYN | ACK), C), "redirect", "pass_on"),
    Row("R18 SYN+RST is none", gue(tcp(SYN | RST), C), "redirect", "pass_on"),
    Row("R18 forward_syn", gue(tcp(SYN), C, private_flags=8), "redirect", "pass_on"),
    Row("R23 hop without entry", gue(tcp(), BARE), "drop", "drop_no_dip"),
    Row("R24 too big", gue(tcp(payload=bytes(1425)), C), "drop", "drop_too_big"),
    Row("R24 fits to the byte", gue(tcp(payload=bytes(1420)), C), "redirect", "pass_on"),
    Row("R24 too big, IPv6", gue(tcp(family=V6, payload=bytes(1401)), C), "drop", "drop_too_big"),
    Row("R24 fits to the byte, IPv6", gue(tcp(family=V6, payload=bytes(1400)), C), "redirect",
        "pass_on"),
    Row("R24 three hops fit to the byte", gue(tcp(payload=bytes(1412)), D, C, B), "redirect",
        "pass_on"),
    Row("R24 three hops too big", gue(tcp(payload=bytes(1413)), D, C, B), "drop", "drop_too_big"),
    Row("R24 nothing is too big at the last hop", gue(tcp(payload=bytes(1425))), "ok", ACCEPT),
    Row(
        "R25 to the first hop", gue(tcp(), C), "redirect", "pass_on",
        lambda f: (f[:6], f[6:12], f[26:34], f[48]) == (MAC, MAC, OWN.packed + C.packed, 1),
    ),
    Row(
        "R25 to the first of three", gue(tcp(), D, C, B), "redirect", "pass_on",
        lambda f: (hops_of(f), f[48:50]) == ([D, D, C, B], bytes((1, 3))),
    ),
    Row(
        "R25 to the third hop, MAC unknown", gue(tcp(family=V6), B, C, D, next_hop=2), "redirect",
        "pass_on", lambda f: (f[:6], f[30:34], f[48]) == (ROUTER_MAC, D.packed, 3),
    ),
    Row(
        "R25 a wrong outer checksum is made right", gue(tcp(), C, outer_checksum=7),
        "redirect", "pass_on",
    ),
    Row("R25 UDP without a socket", gue(udp(), C), "redirect", "pass_on"),
    Row("R25 UDP without a socket, IPv6", gue(udp(V6), C), "redirect", "pass_on"),
)  # fmt: skip
