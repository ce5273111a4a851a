"""The builders of frames against a dissector that nobody here wrote."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from tests.model import Address
from tests.model.frames import (
    C_TAG,
    S_TAG,
    authentication,
    destination_options,
    fragment_header,
    fragments_of,
    framed,
    gue_packet,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ip_packet,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.packets.world import CLIENT, CLIENT6, VIP, VIP6, dip

NOPS = b"\x01\x01\x01\x00"
FAMILIES = pytest.mark.parametrize(
    ("client", "vip"), [(CLIENT, VIP), (CLIENT6, VIP6)], ids=["IPv4", "IPv6"]
)


def _computed_anew(packet: bytes, layer: type[Packet], field: str) -> tuple[int, int]:
    """The checksum that a packet brings and the one that the dissector would give it."""
    dissected = Ether(framed(packet))
    brought = dissected[layer].getfieldval(field)
    dissected[layer].delfieldval(field)
    return brought, Ether(bytes(dissected))[layer].getfieldval(field)


@FAMILIES
@pytest.mark.parametrize("payload", [b"", b"odd", b"\xff" * 100])
def test_checksums(client: Address, vip: Address, payload: bytes) -> None:
    tcp = tcp_packet(client, 1, vip, 80, payload=payload)
    udp = udp_packet(client, 1, vip, 53, payload=payload)
    echo = icmp_packet(client, vip, payload=payload)
    cases = [(tcp, TCP, "chksum"), (udp, UDP, "chksum")]
    if client.version == 4:
        cases += [(tcp, IP, "chksum"), (echo, ICMP, "chksum")]
    else:
        cases += [(echo, ICMPv6EchoRequest, "cksum")]
    for packet, layer, field in cases:
        brought, anew = _computed_anew(packet, layer, field)
        assert brought == anew != 0


def test_options_are_part_of_the_header() -> None:
    packet = tcp_packet(CLIENT, 1, VIP, 80, options=NOPS)
    dissected = IP(packet)
    assert (dissected.ihl, dissected.len, dissected[TCP].dport) == (6, len(packet), 80)
    assert _computed_anew(packet, IP, "chksum")[0] == _computed_anew(packet, IP, "chksum")[1]


def test_tags() -> None:
    frame = Ether(framed(tcp_packet(CLIENT, 1, VIP, 80), tags=[S_TAG, C_TAG]))
    assert (frame[Dot1AD].vlan, frame[Dot1Q].vlan, frame[TCP].dport) == (100, 5, 80)
    assert Ether(framed(tcp_packet(CLIENT6, 1, VIP6, 80), tags=[C_TAG]))[Dot1Q].type == 0x86DD


def test_extension_headers() -> None:
    headers = [hop_by_hop(16), routing(24), fragment_header(), destination_options()]
    packet = tcp_packet(CLIENT6, 1, VIP6, 80, headers=headers, payload=b"data", tos=0xB9)
    dissected = IPv6(packet)
    assert (dissected.plen, dissected.tc, dissected.fl) == (len(packet) - 40, 0xB9, 0x12345)
    assert (dissected[IPv6ExtHdrHopByHop].len, dissected[IPv6ExtHdrRouting].len) == (1, 2)
    assert dissected[IPv6ExtHdrFragment].id == 0x12345678
    assert dissected[IPv6ExtHdrDestOpt].nh == 6
    assert (dissected[TCP].dport, bytes(dissected[TCP].payload)) == (80, b"data")


def test_an_authentication_header() -> None:
    dissected = IPv6(tcp_packet(CLIENT6, 1, VIP6, 80, headers=[authentication(24)]))
    assert (dissected[AH].payloadlen, dissected[AH].nh) == (4, 6)


def test_errors() -> None:
    about = tcp_packet(VIP, 80, CLIENT, 40000)
    packet = icmp_error(CLIENT, about, mtu=1234)
    dissected = IP(packet)
    assert (dissected.dst, dissected[ICMP].nexthopmtu) == (str(VIP), 1234)
    assert dissected[ICMP].payload.dport == 40000
    brought, anew = _computed_anew(packet, ICMP, "chksum")
    assert brought == anew
    packet = icmp_error(CLIENT6, tcp_packet(VIP6, 443, CLIENT6, 40000), mtu=1234)
    assert (IPv6(packet).dst, IPv6(packet)[ICMPv6PacketTooBig].mtu) == (str(VIP6), 1234)
    brought, anew = _computed_anew(packet, ICMPv6PacketTooBig, "cksum")
    assert brought == anew


@pytest.mark.parametrize("size", [8, 16, 24, 64, 1000])
def test_fragments_make_the_packet_again(size: int) -> None:
    payload = bytes(range(200))
    whole = udp_packet(CLIENT, 1, VIP, 53, payload=payload, fragment=0)
    pieces = fragments_of(whole, size)
    assert len(pieces) == -(-208 // size)
    (again,) = defragment([IP(piece) for piece in pieces])
    assert bytes(again[UDP]) == whole[20:]
    whole6 = udp_packet(CLIENT6, 1, VIP6, 53, payload=payload)
    pieces6 = fragments_of(whole6, size)
    assert len(pieces6) == len(pieces)
    if len(pieces6) > 1:
        assert bytes(defragment6([IPv6(piece) for piece in pieces6])) == whole6


def test_sizes_that_no_fragment_has() -> None:
    for size in (0, 7, -8):
        with pytest.raises(ValueError, match="multiples of 8"):
            fragments_of(udp_packet(CLIENT, 1, VIP, 53), size)


def test_what_a_family_has_not() -> None:
    with pytest.raises(ValueError, match="two families"):
        ip_packet(CLIENT, VIP6, 6, b"")
    with pytest.raises(ValueError, match="no extension headers"):
        tcp_packet(CLIENT, 1, VIP, 80, headers=[routing()])
    with pytest.raises(ValueError, match="no options"):
        tcp_packet(CLIENT6, 1, VIP6, 80, options=NOPS)


def test_gue_says_what_is_inside() -> None:
    assert gue_packet(dip(1), dip(2), tcp_packet(CLIENT, 1, VIP, 80))[29] == 4
    assert gue_packet(dip(1), dip(2), tcp_packet(CLIENT6, 1, VIP6, 80))[29] == 41
    assert gue_packet(dip(1), dip(2), b"")[29] == 4
