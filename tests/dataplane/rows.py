"""What both programs must do with single frames: name, frame, configuration, verdict, counter.

The frame that comes out is the model's; a row says what it must be where that is plain to see.
Sections and lines are those of docs/wire.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from tests.model import Config, Dip, Flow, Pool, Service, bucket_of
from tests.model.frames import ethernet, gue_packet, icmp_packet, ipv4, tcp_packet, udp_packet
from tests.model.result import Verdict

CLIENT = IPv4Address("198.51.100.7")
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.11")
OWN, B, C, D = (IPv4Address("10.0.0.1") + n for n in range(4))
STRANGER = IPv4Address("10.7.7.7")
BARE = IPv4Address("10.0.0.9")
PROBER = IPv4Address("10.0.1.1")
MAC = bytes.fromhex("020000000a01")
MAC_B = bytes.fromhex("020000000a02")
KEY = bytes(range(16))
SYN, ACK, RST, FIN = 2, 16, 4, 1
SPORT = 40000


def pool_with(chain: tuple[int, ...], *flows: Flow) -> Pool:
    """A pool in which the buckets of some flows have one chain, and all others are empty."""
    buckets = {bucket_of(flow.hash(KEY), 65536): chain for flow in flows}
    return Pool(KEY, 65536, buckets)


def flow(protocol: int, port: int = 80, vip: IPv4Address = VIP) -> Flow:
    return Flow(protocol, CLIENT, SPORT, vip, port)


def server(chain: tuple[int, ...] = (2,), *, stateless: bool = False, **others: object) -> Config:
    """This server, where the chain of every flow in this file is `chain`."""
    pool = pool_with(chain, flow(6), flow(17), flow(17, 53), flow(17, 6080))
    config = Config(
        self_dip=OWN,
        mac=MAC,
        mtu=1500,
        services=(
            Service(VIP, 6, 80, "web"),
            Service(VIP, 17, 80, "web", stateless=stateless),
            Service(VIP, 17, 6080, "web"),
            Service(OTHER_VIP, 6, 80, "unloaded"),
        ),
        pools={"web": pool, "unloaded": None},
        dips={1: Dip(OWN), 2: Dip(B, MAC_B), 3: Dip(C), 4: Dip(D, MAC)},
        known=frozenset({OWN, B, C, D, BARE}),
        probers=frozenset({PROBER}),
    )
    return replace(config, **others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One packet and what must become of it."""

    name: str
    frame: bytes
    verdict: Verdict
    counter: str
    config: Config = field(default_factory=server)
    check: Callable[[bytes], bool] | None = None


def tcp(flags: int = ACK, *, vip: IPv4Address = VIP, payload: bytes = b"", tos: int = 0) -> bytes:
    return tcp_packet(CLIENT, SPORT, vip, 80, flags=flags, payload=payload, tos=tos)


def udp(port: int = 80, *, payload: bytes = b"hello") -> bytes:
    return udp_packet(CLIENT, SPORT, VIP, port, payload=payload)


def raw(packet: bytes, at: int, *values: int) -> bytes:
    """A frame with some bytes of its IP packet changed."""
    changed = bytearray(packet)
    changed[at : at + len(values)] = bytes(values)
    return ethernet(bytes(changed))


def hops_of(frame: bytes) -> list[IPv4Address]:
    """The destination and the hop list of an encapsulated frame: the visits in order."""
    count = frame[49]
    listed = [IPv4Address(frame[50 + 4 * n : 54 + 4 * n]) for n in range(count)]
    return [IPv4Address(frame[30:34]), *listed]


def visits(*dips: IPv4Address) -> Callable[[bytes], bool]:
    return lambda frame: hops_of(frame) == list(dips)


def to_mac(mac: bytes) -> Callable[[bytes], bool]:
    return lambda frame: frame[:6] == mac


FOREIGN = tcp_packet(CLIENT, SPORT, IPv4Address("192.0.2.99"), 80, flags=ACK)
PADDING = bytes(6)

FORWARDER_ROWS = (
    Row("F2 802.1Q", ethernet(tcp(), kind=0x8100), "pass", "pass_vlan"),
    Row("F2 802.1ad", ethernet(tcp(), kind=0x88A8), "pass", "pass_vlan"),
    Row("F3 IPv6", ethernet(bytes(60), kind=0x86DD), "pass", "pass_ipv6"),
    Row("F4 ARP", ethernet(bytes(46), kind=0x0806), "pass", "pass_not_ip"),
    Row("F4 frame of 14 bytes", ethernet(b"", kind=0x1234), "pass", "pass_not_ip"),
    Row("F5 frame of 33 bytes", ethernet(tcp())[:33], "pass", "pass_malformed"),
    Row("F5 version 6 in IPv4", raw(tcp(), 0, 0x65), "pass", "pass_malformed"),
    Row("F6 ihl 4 to a VIP", raw(tcp(), 0, 0x44), "drop", "drop_malformed"),
    Row("F6 ihl 4 elsewhere", raw(FOREIGN, 0, 0x44), "pass", "pass_no_service"),
    Row("F7 options to a VIP", raw(tcp(), 0, 0x46), "drop", "drop_ip_options"),
    Row("F7 options elsewhere", raw(FOREIGN, 0, 0x4F), "pass", "pass_no_service"),
    Row("F8 first fragment", raw(tcp(), 6, 0x20, 0), "drop", "drop_fragment"),
    Row("F8 later fragment", raw(tcp(), 6, 0, 1), "drop", "drop_fragment"),
    Row("F8 fragment elsewhere", raw(FOREIGN, 6, 0x20, 0), "pass", "pass_no_service"),
    Row("F8 reserved bit is no fragment", raw(tcp(), 6, 0x80, 0), "tx", "tx_forward"),
    Row("F9 echo to a VIP", ethernet(icmp_packet(CLIENT, VIP)), "pass", "pass_vip_icmp"),
    Row("F9 error to a VIP", ethernet(icmp_packet(CLIENT, VIP, kind=3)), "pass", "pass_vip_icmp"),
    Row("F9 echo elsewhere", ethernet(icmp_packet(CLIENT, B)), "pass", "pass_no_service"),
    Row("F10 GRE to a VIP", ethernet(ipv4(CLIENT, VIP, 47, bytes(40))), "pass", "pass_no_service"),
    Row("F11 TCP header cut", ethernet(tcp())[:53], "drop", "drop_malformed"),
    Row("F11 UDP header cut", ethernet(udp())[:41], "drop", "drop_malformed"),
    Row("F11 cut, elsewhere", ethernet(FOREIGN)[:53], "pass", "pass_no_service"),
    Row(
        "F11 a UDP frame of 42 bytes is whole",
        ethernet(udp(payload=b"")),
        "tx",
        "tx_forward",
    ),
    Row(
        "F12 own DIP as source",
        ethernet(udp_packet(OWN, 1, VIP, 6080)),
        "drop",
        "drop_spoofed",
    ),
    Row(
        "F12 whatever the destination",
        ethernet(udp_packet(OWN, 1, IPv4Address("10.0.0.1"), 6080)),
        "drop",
        "drop_spoofed",
    ),
    Row(
        "F12 another's DIP is for its redirector",
        ethernet(udp_packet(B, 1, OWN, 6080)),
        "pass",
        "pass_no_service",
    ),
    Row("F13 other port", ethernet(udp(81)), "pass", "pass_no_service"),
    Row("F13 other address", ethernet(FOREIGN), "pass", "pass_no_service"),
    Row("F14 total length 39", raw(tcp(), 2, 0, 39), "drop", "drop_malformed"),
    Row("F14 total length past the end", raw(tcp(), 2, 0, 41), "drop", "drop_malformed"),
    Row("F14 UDP total length 27", raw(udp(), 2, 0, 27), "drop", "drop_malformed"),
    Row("F15 no table", ethernet(tcp(vip=OTHER_VIP)), "drop", "drop_no_table"),
    Row("F16 empty bucket", ethernet(tcp()), "drop", "drop_no_bucket", server(())),
    Row("F16 zero before others", ethernet(tcp()), "drop", "drop_no_bucket", server((0, 2))),
    Row("F17 current without entry", ethernet(tcp()), "drop", "drop_no_dip", server((77,))),
    Row("F17 previous without entry", ethernet(tcp()), "drop", "drop_no_dip", server((2, 77))),
    Row("F17 oldest without entry", ethernet(tcp()), "drop", "drop_no_dip", server((2, 3, 4, 77))),
    Row("F18 mine", ethernet(tcp(SYN)), "pass", "pass_local", server((1,))),
    Row(
        "F19 mine, then another's", ethernet(tcp()), "pass", "pass_to_self", server((1, 2)),
        visits(OWN, B),
    ),
    Row(
        "F20 too big by a byte", ethernet(udp(payload=bytes(1437))), "drop", "drop_too_big",
    ),
    Row("F20 fits to the byte", ethernet(udp(payload=bytes(1436))), "tx", "tx_forward"),
    Row(
        "F20 a hop more is too big", ethernet(tcp(payload=bytes(1424))), "drop", "drop_too_big",
        server((2, 3)),
    ),
    Row("F21 known MAC", ethernet(tcp()), "tx", "tx_forward", check=to_mac(MAC_B)),
    Row(
        "F21 unknown MAC goes back", ethernet(tcp()), "tx", "tx_forward", server((3,)),
        to_mac(ethernet(b"")[6:12]),
    ),
    Row(
        "F21 TOS is copied", ethernet(tcp(tos=0xB9)), "tx", "tx_forward",
        check=lambda f: f[15] == 0xB9,
    ),
    Row(
        "F21 padding stays behind", ethernet(tcp()) + PADDING, "tx", "tx_forward",
        check=lambda f: f.endswith(PADDING) and f[16:18] == bytes((0, 76)),
    ),
    Row(
        "F22 TCP newest first", ethernet(tcp()), "tx", "tx_forward_chain", server((2, 3, 4)),
        visits(B, C, D),
    ),
    Row(
        "F22 a SYN takes the same way", ethernet(tcp(SYN)), "tx", "tx_forward_chain",
        server((2, 3)), visits(B, C),
    ),
    Row(
        "F22 UDP oldest first", ethernet(udp()), "tx", "tx_forward_chain", server((2, 3, 4)),
        visits(D, C, B),
    ),
    Row(
        "F19 UDP of four, mine the oldest", ethernet(udp()), "pass", "pass_to_self",
        server((2, 3, 4, 1)), visits(OWN, D, C, B),
    ),
    Row(
        "F22 TCP of four, mine the oldest", ethernet(tcp()), "tx", "tx_forward_chain",
        server((2, 3, 4, 1)), visits(B, C, D, OWN),
    ),
    Row(
        "F19 TCP of four, mine the newest", ethernet(tcp(SYN)), "pass", "pass_to_self",
        server((1, 2, 3, 4)), visits(OWN, B, C, D),
    ),
    Row(
        "F20 four fit to the byte", ethernet(tcp(payload=bytes(1412))), "tx",
        "tx_forward_chain", server((2, 3, 4, 1)), visits(B, C, D, OWN),
    ),
    Row(
        "F20 four too big by a byte", ethernet(tcp(payload=bytes(1413))), "drop", "drop_too_big",
        server((2, 3, 4, 1)),
    ),
    Row(
        "F21 stateless UDP: current only", ethernet(udp()), "tx", "tx_forward",
        server((2, 3), stateless=True), visits(B),
    ),
    Row(
        "F21 stateless UDP of four: current only", ethernet(udp()), "tx", "tx_forward",
        server((2, 3, 4, 1), stateless=True), visits(B),
    ),
    Row(
        "F18 stateless UDP, mine", ethernet(udp()), "pass", "pass_local",
        server((1, 3), stateless=True),
    ),
    Row(
        "section 3: zero ends a chain", ethernet(tcp()), "tx", "tx_forward_chain",
        server((2, 3, 0, 4)), visits(B, C),
    ),
)  # fmt: skip


def gue(
    inner: bytes,
    *hops: IPv4Address,
    source: IPv4Address = B,
    to: IPv4Address = OWN,
    **fields: int,
) -> bytes:
    return ethernet(gue_packet(source, to, inner, hops, **fields))  # type: ignore[arg-type]


def inner_changed(at: int, *values: int, packet: bytes | None = None) -> bytes:
    """A packet to the VIP with some bytes changed."""
    changed = bytearray(tcp() if packet is None else packet)
    changed[at : at + len(values)] = bytes(values)
    return bytes(changed)


def grown(by: int) -> Callable[[bytes], bool]:
    return lambda frame: len(frame) == len(ethernet(tcp())) + by


ACCEPT = "accept_last_hop"
BAD_GUE = "drop_gue_malformed"
BAD_INNER = "drop_inner_malformed"
ANOTHER_GUE = gue_packet(B, OWN, tcp())

REDIRECTOR_ROWS = (
    Row("R1 TCP", ethernet(tcp()), "ok", "ok_not_gue"),
    Row("R1 ARP", ethernet(bytes(46), kind=0x0806), "ok", "ok_not_gue"),
    Row("R1 other port", gue(tcp(), gue_port=6081), "ok", "ok_not_gue"),
    Row("R1 to another DIP", gue(tcp(), to=C), "ok", "ok_not_gue"),
    Row("R1 first fragment", gue(tcp(), fragment=0x2000), "ok", "ok_not_gue"),
    Row("R1 later fragment", gue(tcp(), fragment=1), "ok", "ok_not_gue"),
    Row(
        "R1 outer options", ethernet(gue_packet(B, OWN, tcp(), options=bytes(4))), "ok",
        "ok_not_gue",
    ),
    Row("R1 frame of 41 bytes", gue(tcp())[:41], "ok", "ok_not_gue"),
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
    Row("R3 list longer than the packet", gue(b"", hop_count=1), "drop", BAD_GUE),
    Row("R3 proto 17", gue(tcp(), proto=17), "drop", BAD_GUE),
    Row("R4 unknown source", gue(tcp(), source=STRANGER), "drop", "drop_unknown_source"),
    Row("R4 a prober may", gue(tcp(SYN), source=PROBER), "ok", ACCEPT),
    Row("R5 loop", gue(tcp(), C, OWN), "drop", "drop_hop_loop"),
    Row("R5 before R6", gue(tcp(), STRANGER, OWN), "drop", "drop_hop_loop"),
    Row("R5 a hop behind us is no loop", gue(tcp(), OWN, C, next_hop=2), "ok", ACCEPT),
    Row("R5 loop at the third", gue(tcp(), C, D, OWN), "drop", "drop_hop_loop"),
    Row("R6 unknown third hop", gue(tcp(), C, D, STRANGER), "drop", "drop_unknown_hop"),
    Row("R6 unknown hop", gue(tcp(), C, STRANGER), "drop", "drop_unknown_hop"),
    Row("R6 a prober is no hop", gue(tcp(), PROBER), "drop", "drop_unknown_hop"),
    Row("R6 an unknown hop behind us", gue(tcp(), STRANGER, next_hop=1), "ok", ACCEPT),
    Row("R6 hop 0.0.0.0", gue(tcp(), IPv4Address(0)), "drop", "drop_unknown_hop"),
    Row("R7 IPv6 inside", gue(tcp(), proto=41), "drop", "drop_inner_ipv6"),
    Row("R8 nothing inside", gue(b""), "drop", BAD_INNER),
    Row("R8 19 bytes", gue(tcp()[:19]), "drop", BAD_INNER),
    Row("R8 version 6", gue(inner_changed(0, 0x65)), "drop", BAD_INNER),
    Row("R8 ihl 4", gue(inner_changed(0, 0x44)), "drop", BAD_INNER),
    Row("R8 total length", gue(inner_changed(2, 0, 41)), "drop", BAD_INNER),
    Row("R8 ihl beyond the packet", gue(inner_changed(0, 0x4F)), "drop", BAD_INNER),
    Row("R9 no VIP", gue(FOREIGN), "drop", "drop_not_vip"),
    Row("R9 GUE in GUE", gue(ANOTHER_GUE), "drop", "drop_not_vip"),
    Row(
        "R10 options", gue(ipv4(CLIENT, VIP, 6, bytes(20), options=bytes(4))), "drop",
        "drop_inner_options",
    ),
    Row("R11 fragment", gue(inner_changed(6, 0x20, 0)), "drop", "drop_inner_fragment"),
    Row("R12 TCP of 19 bytes", gue(ipv4(CLIENT, VIP, 6, bytes(19))), "drop", BAD_INNER),
    Row("R12 data offset 4", gue(inner_changed(32, 0x40)), "drop", BAD_INNER),
    Row("R12 data offset beyond", gue(inner_changed(32, 0x60)), "drop", BAD_INNER),
    Row("R12 UDP of 7 bytes", gue(ipv4(CLIENT, VIP, 17, bytes(7))), "drop", BAD_INNER),
    Row("R12 ICMP of 7 bytes", gue(ipv4(CLIENT, VIP, 1, b"\x08" + bytes(6))), "drop", BAD_INNER),
    Row("R13 GRE", gue(ipv4(CLIENT, VIP, 47, bytes(20))), "drop", "drop_inner_protocol"),
    Row("R13 echo reply", gue(icmp_packet(CLIENT, VIP, kind=0)), "drop", "drop_inner_protocol"),
    Row("R13 type 8 code 1", gue(icmp_packet(CLIENT, VIP, code=1)), "drop", "drop_inner_protocol"),
    Row("R14 last hop", gue(tcp()), "ok", ACCEPT, check=grown(0)),
    Row("R14 last of two", gue(tcp(), C, D, next_hop=2), "ok", ACCEPT, check=grown(0)),
    Row("R14 last of four", gue(tcp(), B, C, D, next_hop=3), "ok", ACCEPT, check=grown(0)),
    Row("R3 beyond three hops", gue(tcp(), B, C, D, next_hop=4), "drop", BAD_GUE),
    Row("R14 UDP", gue(udp()), "ok", ACCEPT),
    Row("R14 forward_syn does not matter", gue(tcp(SYN), private_flags=8), "ok", ACCEPT),
    Row("R14 padding stays", gue(tcp()) + PADDING, "ok", ACCEPT, check=grown(6)),
    Row("R15 echo", gue(icmp_packet(CLIENT, VIP), C), "ok", "accept_echo"),
    Row("R16 SYN", gue(tcp(SYN), C), "ok", "accept_syn"),
    Row("R16 SYN, three hops left", gue(tcp(SYN), B, C, D), "ok", "accept_syn", check=grown(0)),
    Row("R16 SYN with ECE and CWR", gue(tcp(SYN | 0xC0), C), "ok", "accept_syn"),
    Row("R16 SYN+FIN is a SYN", gue(tcp(SYN | FIN), C), "ok", "accept_syn"),
    Row("R16 SYN-ACK is none", gue(tcp(SYN | ACK), C), "redirect", "pass_on"),
    Row("R16 SYN+RST is none", gue(tcp(SYN | RST), C), "redirect", "pass_on"),
    Row("R16 forward_syn", gue(tcp(SYN), C, private_flags=8), "redirect", "pass_on"),
    Row("R20 hop without entry", gue(tcp(), BARE), "drop", "drop_no_dip"),
    Row("R21 too big", gue(tcp(payload=bytes(1425)), C), "drop", "drop_too_big"),
    Row("R21 fits to the byte", gue(tcp(payload=bytes(1420)), C), "redirect", "pass_on"),
    Row(
        "R22 to the first hop", gue(tcp(), D), "redirect", "pass_on",
        check=lambda f: (f[:6], f[26:34], f[48]) == (MAC, OWN.packed + D.packed, 1),
    ),
    Row(
        "R22 to the first of three", gue(tcp(), D, C, B), "redirect", "pass_on",
        check=lambda f: (hops_of(f), f[48:50]) == ([D, D, C, B], bytes((1, 3))),
    ),
    Row(
        "R21 three hops fit to the byte", gue(tcp(payload=bytes(1412)), D, C, B), "redirect",
        "pass_on",
    ),
    Row("R21 three hops too big", gue(tcp(payload=bytes(1413)), D, C, B), "drop", "drop_too_big"),
    Row(
        "R22 to the third hop, MAC unknown", gue(tcp(), B, D, C, next_hop=2), "redirect",
        "pass_on", check=lambda f: (f[:6], f[30:34], f[48]) == (ethernet(b"")[6:12], C.packed, 3),
    ),
    Row(
        "R22 a wrong outer checksum is made right", gue(tcp(), C, outer_checksum=7),
        "redirect", "pass_on",
    ),
    Row("R22 UDP without a socket", gue(udp(), C), "redirect", "pass_on"),
    Row("RFC 6040 CE, Not-ECT", gue(tcp(), tos=3), "drop", "drop_ecn"),
    Row("RFC 6040 CE, ECT(0)", gue(tcp(tos=2), tos=3), "ok", ACCEPT, check=lambda f: f[15] == 3),
    Row("RFC 6040 CE, ECT(1)", gue(tcp(tos=1), tos=3), "ok", ACCEPT, check=lambda f: f[15] == 3),
    Row("RFC 6040 CE, CE", gue(tcp(tos=3), tos=3), "ok", ACCEPT, check=lambda f: f[15] == 3),
    Row(
        "RFC 6040 ECT(1), ECT(0)", gue(tcp(tos=0xBA), tos=1), "ok", ACCEPT,
        check=lambda f: f[15] == 0xB9,
    ),
    Row("RFC 6040 ECT(0), Not-ECT", gue(tcp(), tos=2), "ok", ACCEPT, check=lambda f: f[15] == 0),
    Row("RFC 6040 CE on the way", gue(tcp(), C, tos=3), "redirect", "pass_on"),
)  # fmt: skip
