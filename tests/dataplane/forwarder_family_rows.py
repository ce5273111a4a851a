"""What the forwarder must do with frames of either family that are not ordinary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.dataplane.rows import (
    ACK,
    CLIENT,
    CLIENT6,
    IN_WIDE,
    IN_WIDE6,
    MAC_B,
    OWN,
    SPORT,
    SYN,
    VIP,
    VIP6,
    B,
    C,
    D,
    Row,
    server,
    tcp,
    to_mac,
    udp,
    visits,
)
from tests.model import Address
from tests.model.frames import (
    C_TAG,
    S_TAG,
    authentication,
    destination_options,
    ethernet,
    fragment_header,
    fragments_of,
    framed,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    routing,
    tcp_packet,
    udp_packet,
)

FAMILIES: tuple[tuple[Address, Address], ...] = ((VIP, CLIENT), (VIP6, CLIENT6))
NOPS = bytes((1, 1, 1, 1))
SIX = (
    hop_by_hop(),
    destination_options(16),
    routing(24),
    fragment_header(),
    authentication(12),
    destination_options(),
)


def cut(frame: bytes, by: int) -> bytes:
    """A frame that ends early."""
    return frame[:-by]


def rare_of(version: int) -> dict[str, Any]:
    """What makes a packet of a family no ordinary one."""
    return {"options": NOPS} if version == 4 else {"headers": SIX}


def rows_of(vip: Address, client: Address) -> Iterator[Row]:
    """What both families have in common: tags, long headers, chains, lengths."""
    v = f", IPv{vip.version}"
    rare = rare_of(vip.version)
    yield Row(f"F21 no tag{v}", framed(tcp(vip=vip)), "tx", "tx_forward", check=to_mac(MAC_B))
    yield Row(f"F21 802.1Q{v}", framed(tcp(vip=vip), tags=[C_TAG]), "tx", "tx_forward",
              check=lambda f: f[12:18] == C_TAG + b"\x08\x00" and f[34:38] == B.packed)  # fmt: skip
    yield Row(f"F22 802.1ad{v}", framed(tcp(vip=vip), tags=[S_TAG, C_TAG]), "tx",
              "tx_forward_chain", server((3, 4)),
              lambda f: f[12:22] == S_TAG + C_TAG + b"\x08\x00")  # fmt: skip
    yield Row(f"F3 three tags{v}", framed(tcp(vip=vip), tags=[S_TAG, C_TAG, C_TAG]), "pass",
              "pass_not_ip")  # fmt: skip
    yield Row(f"F2 cut in a tag{v}", framed(tcp(vip=vip), tags=[C_TAG])[:17], "pass",
              "pass_malformed")  # fmt: skip
    yield Row(f"F21 long headers{v}", framed(tcp(vip=vip, **rare)), "tx", "tx_forward")
    yield Row(f"F22 long headers, four, UDP{v}", framed(udp(vip=vip, **rare), tags=[C_TAG]),
              "tx", "tx_forward_chain", server((1, 2, 3, 4)))  # fmt: skip
    yield Row(f"F19 long headers{v}", framed(tcp(vip=vip, **rare)), "pass", "pass_to_self",
              server((1, 2)), visits(OWN, B))  # fmt: skip
    yield Row(f"F18 long headers{v}", framed(tcp(SYN, vip=vip, **rare)), "pass", "pass_local",
              server((1,)))  # fmt: skip
    yield Row(f"F11 long headers cut{v}", cut(framed(tcp(vip=vip, **rare)), 1), "drop",
              "drop_malformed")  # fmt: skip
    yield Row(f"F14 a byte short{v}", framed(udp(vip=vip))[:-1], "drop", "drop_malformed")
    yield Row(f"F13 another port{v}", framed(tcp(vip=vip, port=81)), "pass", "pass_no_service")
    yield Row(f"F21 traffic class{v}", framed(tcp(vip=vip, tos=0xB9)), "tx", "tx_forward",
              check=lambda f: f[15] == 0xB9)  # fmt: skip
    yield Row(f"F22 TCP{v}", framed(tcp(vip=vip)), "tx", "tx_forward_chain", server((2, 3, 4)),
              visits(B, C, D))  # fmt: skip
    yield Row(f"F22 UDP{v}", framed(udp(vip=vip)), "tx", "tx_forward_chain", server((2, 3, 4)),
              visits(D, C, B))  # fmt: skip


def icmp_rows_of(vip: Address, client: Address) -> Iterator[Row]:
    """Section 4.3."""
    v = f", IPv{vip.version}"
    rare = rare_of(vip.version)
    sent = tcp_packet(vip, 80, client, SPORT, flags=ACK)
    answered = udp_packet(vip, 80, client, SPORT, payload=b"x")
    head = len(sent) - 20

    def error(about: bytes, **fields: Any) -> bytes:
        return framed(icmp_error(client, about, destination=vip, **fields))

    yield Row(f"I3 echo{v}", framed(icmp_packet(client, vip)), "pass", "pass_vip_icmp")
    yield Row(f"I9 about TCP{v}", error(sent), "tx", "tx_forward_chain", server((2, 3)),
              visits(B, C))  # fmt: skip
    yield Row(f"I9 about UDP{v}", error(answered), "tx", "tx_forward_chain", server((2, 3)),
              visits(C, B))  # fmt: skip
    yield Row(f"I9 only 8 bytes{v}", error(sent[: head + 8]), "tx", "tx_forward")
    yield Row(f"I8 only 7{v}", error(sent[: head + 7]), "drop", "drop_malformed")
    yield Row(f"I4 not a header{v}", error(sent[:10]), "drop", "drop_malformed")
    yield Row(f"I2 cut{v}", framed(icmp_packet(client, vip))[:-1], "drop", "drop_malformed")
    yield Row(f"I9 long headers in both{v}",
              error(tcp_packet(vip, 80, client, SPORT, flags=ACK, **rare), **rare), "tx",
              "tx_forward")  # fmt: skip
    yield Row(f"I5 of a stranger{v}", error(tcp_packet(client, 80, vip, SPORT, flags=ACK)),
              "drop", "drop_malformed")  # fmt: skip
    yield Row(f"I9 another port{v}", error(tcp_packet(vip, 81, client, SPORT, flags=ACK)), "pass",
              "pass_vip_icmp")  # fmt: skip
    yield Row(f"I7 about ICMP{v}", error(icmp_packet(vip, client)), "pass", "pass_vip_icmp")
    yield Row(f"F20 an error is never answered{v}", error(sent + bytes(1460 - len(sent))), "drop",
              "drop_too_big")  # fmt: skip


def fragment_rows_of(vip: Address, client: Address) -> Iterator[Row]:
    """Section 4.4. Each row has an identification of its own: fragments are remembered."""
    v = f", IPv{vip.version}"
    protocol_number = {4: 1000, 6: 2000}[vip.version]
    pieces = [
        [framed(piece) for piece in fragments_of(packet, 64, identification=protocol_number + n)]
        for n, packet in enumerate([tcp(vip=vip, payload=bytes(200)),
                                    udp(vip=vip, payload=bytes(200)),
                                    udp(vip=vip, payload=bytes(201)),
                                    tcp(vip=vip, payload=bytes(201))])
    ]  # fmt: skip
    for name, (first, *later) in zip(("TCP", "UDP"), pieces, strict=False):
        yield Row(f"F22 first fragment of {name}{v}", first, "tx", "tx_forward_chain",
                  server((2, 3)))  # fmt: skip
        yield Row(f"F22 later fragment of {name}{v}", later[1], "tx", "tx_forward_chain",
                  server((2, 3)), before=(first,))  # fmt: skip
    yield Row(f"F9 without its first{v}", pieces[2][1], "drop", "drop_fragment")
    yield Row(f"F9 after a malformed first{v}", pieces[3][1], "drop", "drop_fragment",
              before=(cut(pieces[3][0], 1),))  # fmt: skip
    ping = icmp_packet(client, vip, payload=bytes(200))
    of_ping = fragments_of(ping, 64, identification=protocol_number + 9)
    yield Row(f"F7 first of ICMP{v}", framed(of_ping[0]), "pass", "pass_vip_icmp")
    yield Row(f"F7 later of ICMP{v}", framed(of_ping[1]), "pass", "pass_vip_icmp")


def too_big_rows_of(vip: Address, client: Address) -> Iterator[Row]:
    """Section 4.5, and what the answer says; room at depth 2 is 40 bytes, at depth 4 48."""
    v = f", IPv{vip.version}"
    big = tcp(vip=vip, payload=bytes(1465 - (40 if vip.version == 4 else 60)))
    mtu_at = {4: 14 + 26, 6: 14 + 46}[vip.version]
    source = slice(26, 30) if vip.version == 4 else slice(22, 38)

    def says(mtu: int) -> Any:
        def check(frame: bytes) -> bool:
            told = int.from_bytes(frame[mtu_at : mtu_at + 2], "big")
            return told == mtu and frame[source] == vip.packed

        return check

    yield Row(f"4.5 an answer{v}", framed(big), "tx", "tx_too_big", server((2,)), says(1460))
    yield Row(f"4.5 an answer at depth 4{v}", framed(big), "tx", "tx_too_big",
              server((2, 3, 4, 1)), says(1452))  # fmt: skip
    yield Row(f"4.5 long headers, tags{v}",
              framed(tcp(vip=vip, payload=bytes(1440), **rare_of(vip.version)),
                     tags=[S_TAG, C_TAG]), "tx", "tx_too_big",
              check=lambda f: f[12:20] == S_TAG + C_TAG)  # fmt: skip


OTHER_ROWS = (
    Row("F5 ihl beyond the frame", ethernet(tcp(options=bytes(40)))[:70], "drop", "drop_malformed"),
    Row("F6 seven extension headers", framed(tcp(vip=VIP6, headers=(*SIX, routing()))), "drop",
        "drop_ext_headers"),
    Row("F6 257 bytes of them", framed(tcp(vip=VIP6, headers=(hop_by_hop(256), routing()))),
        "drop", "drop_ext_headers"),
    Row("F6 a second fragment header",
        framed(tcp(vip=VIP6, headers=(fragment_header(), fragment_header()))), "drop",
        "drop_malformed"),
    Row("F12 with options", framed(udp_packet(OWN, 1, VIP, 6080, options=NOPS)), "drop",
        "drop_spoofed"),
    Row("F13 a prefix, any port", framed(tcp(vip=IN_WIDE, port=4711)), "tx", "tx_forward"),
    Row("F13 a prefix, its port", framed(tcp(vip=IN_WIDE)), "tx", "tx_forward"),
    Row("F13 a prefix, any port, options", framed(tcp(vip=IN_WIDE, port=443, options=NOPS)), "tx",
        "tx_forward"),
    Row("F13 a shorter prefix's port", framed(tcp(vip=IN_WIDE, port=443)), "tx", "tx_forward"),
    Row("F13 a shorter prefix's port, IPv6", framed(tcp(vip=IN_WIDE6, port=443)), "tx",
        "tx_forward"),
    Row("F13 a prefix, another protocol", framed(udp(vip=IN_WIDE)), "pass", "pass_no_service"),
    Row("4.5 without DF", framed(udp(payload=bytes(1440), fragment=0)), "drop", "drop_too_big"),
    Row("F20 mine first, too big, told", framed(udp(payload=bytes(1464))), "tx", "tx_too_big",
        server((2, 1))),
    Row("F19 mine first, too big, not to be told", framed(udp(payload=bytes(1464), fragment=0)),
        "pass", "pass_to_self", server((2, 1))),
)  # fmt: skip
FAMILY_ROWS = tuple(
    row
    for vip, client in FAMILIES
    for rows in (rows_of, icmp_rows_of, fragment_rows_of, too_big_rows_of)
    for row in rows(vip, client)
)
