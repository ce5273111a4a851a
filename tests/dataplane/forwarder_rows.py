"""What the forwarder must do with ordinary IPv4 frames, and with what is none."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.dataplane.rows import (
    CLIENT,
    FOREIGN,
    MAC_B,
    OTHER_VIP,
    OWN,
    PADDING,
    SYN,
    VIP,
    B,
    C,
    D,
    Row,
    raw,
    server,
    tcp,
    to_mac,
    udp,
    visits,
)
from tests.model.frames import ethernet, icmp_packet, ipv4, udp_packet

FORWARDER_ROWS = (
    Row("F3 ARP", ethernet(bytes(46), kind=0x0806), "pass", "pass_not_ip"),
    Row("F3 frame of 14 bytes", ethernet(b"", kind=0x1234), "pass", "pass_not_ip"),
    Row("F4 frame of 33 bytes", ethernet(tcp())[:33], "pass", "pass_malformed"),
    Row("F4 version 6 in IPv4", raw(tcp(), 0, 0x65), "pass", "pass_malformed"),
    Row("F5 ihl 4 to a VIP", raw(tcp(), 0, 0x44), "drop", "drop_malformed"),
    Row("F5 ihl 4 elsewhere", raw(FOREIGN, 0, 0x44), "pass", "pass_no_service"),
    Row("F14 reserved bit is no fragment", raw(tcp(), 6, 0x80, 0), "tx", "tx_forward"),
    Row("I3 echo to a VIP", ethernet(icmp_packet(CLIENT, VIP)), "pass", "pass_vip_icmp"),
    Row("I3 echo elsewhere", ethernet(icmp_packet(CLIENT, B)), "pass", "pass_no_service"),
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
        "F20 too big by a byte", ethernet(udp(payload=bytes(1437))), "tx", "tx_too_big",
    ),
    Row("F20 fits to the byte", ethernet(udp(payload=bytes(1436))), "tx", "tx_forward"),
    Row(
        "F20 a hop more is too big", ethernet(tcp(payload=bytes(1424))), "tx", "tx_too_big",
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
        "F20 four too big by a byte", ethernet(tcp(payload=bytes(1413))), "tx", "tx_too_big",
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
