"""The bytes of the wrap: a golden frame, an independent dissector, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.model import SameSocket, forward, redirect
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
    ethernet,
    framed,
    hop_by_hop,
    tcp_packet,
    udp_packet,
)
from tests.unit.model.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    HTTP,
    HTTP6,
    KEY,
    VIP,
    VIP6,
    config,
    dip,
    flow,
    mac,
)

PADDING = b"\xaa\xbb\xcc\xdd\xee\xff"
PACKET = tcp_packet(CLIENT, 40000, VIP, 80, tos=0xB9)
PACKET6 = tcp_packet(CLIENT6, 40000, VIP6, 443, tos=0xB9, headers=[hop_by_hop()])
CHAINS = st.lists(st.integers(2, 4), min_size=1, max_size=3, unique=True).map(tuple)


def _wrapped(packet: bytes, chain: tuple[int, ...], *, padding: bytes = b"") -> bytes:
    """The frame that server 1 sends."""
    result = forward(framed(packet) + padding, config(1, chain))
    assert result.frame is not None
    return result.frame


def test_golden_frame() -> None:
    """Put together by hand from section 2; the source port is that of the first golden flow."""
    expected = (
        "020000000002" "020000000001" "0800"
        "45b9" "0054" "0000" "4000" "40" "11" "25de" "0a000001" "0a000002"
        "fa43" "17c0" "0040" "0000"
        "03" "04" "0000"
        "00" "00" "00" "02"
        "0a000003" "0a000004"
    )  # fmt: skip
    assert _wrapped(PACKET, (2, 3, 4)) == bytes.fromhex(expected) + PACKET


def test_golden_frame_of_ipv6() -> None:
    """Likewise; the source port is that of the first golden flow of IPv6, 47356."""
    expected = (
        "020000000002" "020000000001" "0800"
        "45b9" "0060" "0000" "4000" "40" "11" "25d2" "0a000001" "0a000002"
        "b8fc" "17c0" "004c" "0000"
        "01" "29" "0000"
        "00" "00" "00" "00"
    )  # fmt: skip
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, tos=0xB9)
    assert _wrapped(packet, (2,)) == bytes.fromhex(expected) + packet


@pytest.mark.parametrize("tags", [[C_TAG], [S_TAG], [S_TAG, C_TAG]])
@pytest.mark.parametrize("packet", [PACKET, PACKET6], ids=["IPv4", "IPv6"])
def test_tags_stay_outside(packet: bytes, tags: list[bytes]) -> None:
    inside = _wrapped(packet, (2, 3))[14:]
    tag_bytes = b"".join(tags)
    frame = framed(packet, tags=tags) + PADDING
    sent = forward(frame, config(1, (2, 3))).frame
    assert sent == mac(2) + mac(1) + tag_bytes + b"\x08\x00" + inside + PADDING
    back = forward(frame, config(1, (2, 3), no_mac=frozenset({2}))).frame
    assert back == ROUTER_MAC + SERVER_MAC + tag_bytes + b"\x08\x00" + inside + PADDING
    to_self = forward(frame, config(1, (1, 3))).frame
    assert to_self is not None
    l3 = 14 + len(tag_bytes)
    assert to_self[:l3] == SERVER_MAC + ROUTER_MAC + tag_bytes + b"\x08\x00"
    assert to_self.endswith(packet + PADDING)


def test_udp_visits_oldest_first() -> None:
    wrapped = _wrapped(udp_packet(CLIENT, 40000, VIP, 53), (2, 3, 4))
    assert wrapped[30:34] == dip(4).packed
    assert wrapped[50:58] == dip(3).packed + dip(2).packed


def test_a_packet_to_self_keeps_its_own_ethernet_header() -> None:
    wrapped = _wrapped(PACKET, (1, 2))
    assert wrapped[:14] == SERVER_MAC + ROUTER_MAC + b"\x08\x00"
    assert wrapped[26:34] == dip(1).packed * 2


def test_an_unknown_mac_sends_the_packet_back_where_it_came_from() -> None:
    result = forward(ethernet(PACKET), config(1, (2,), no_mac=frozenset({2})))
    assert result.frame is not None
    assert result.frame[:14] == ROUTER_MAC + SERVER_MAC + b"\x08\x00"


def test_padding_stays_behind_and_is_in_no_length() -> None:
    bare, padded = _wrapped(PACKET, (2, 3)), _wrapped(PACKET, (2, 3), padding=PADDING)
    assert padded == bare + PADDING


def test_padding_stays_through_decapsulation_and_passing_on() -> None:
    wrapped = _wrapped(tcp_packet(CLIENT, 1, VIP, 80, flags=0x10), (2, 3), padding=PADDING)
    on = redirect(wrapped, config(2), SameSocket())
    assert on.frame is not None
    assert on.frame.endswith(PADDING)
    done = redirect(on.frame, config(3), SameSocket())
    assert done.frame is not None
    assert done.frame[14:] == tcp_packet(CLIENT, 1, VIP, 80, flags=0x10) + PADDING


@given(chain=CHAINS, tos=st.integers(0, 255), port=st.integers(0, 65535))
def test_another_dissector_reads_the_same(chain: tuple[int, ...], tos: int, port: int) -> None:
    packet = tcp_packet(CLIENT, port, VIP, 80, tos=tos)
    wrapped = _wrapped(packet, chain)
    frame = Ether(wrapped)
    assert (frame.dst, frame.src) == (mac(chain[0]).hex(":"), mac(1).hex(":"))
    outer, udp = frame[IP], frame[UDP]
    assert (outer.version, outer.ihl, outer.tos, outer.id) == (4, 5, tos, 0)
    assert (str(outer.flags), outer.frag, outer.ttl, outer.proto) == ("DF", 0, 64, 17)
    assert outer.len == len(packet) + 36 + 4 * (len(chain) - 1) == len(wrapped) - 14
    assert (outer.src, outer.dst) == (str(dip(1)), str(dip(chain[0])))
    assert (udp.dport, udp.len, udp.chksum) == (6080, outer.len - 20, 0)
    assert udp.sport == 0x8000 | flow(HTTP, port).hash(KEY) >> 48
    checksum = outer.chksum
    del outer.chksum
    assert IP(bytes(outer)).chksum == checksum


MAKERS = {HTTP: tcp_packet, HTTP6: tcp_packet, DNS: udp_packet, DNS6: udp_packet}


@given(
    chain=CHAINS,
    tos=st.integers(0, 255),
    payload=st.binary(max_size=60),
    service=st.sampled_from(list(MAKERS)),
    padding=st.binary(max_size=20),
)
def test_what_is_accepted_is_what_was_wrapped(
    chain: tuple[int, ...], tos: int, payload: bytes, service: int, padding: bytes
) -> None:
    one = flow(service)
    packet = MAKERS[service](
        one.source,
        one.source_port,
        one.destination,
        one.destination_port,
        tos=tos,
        payload=payload,
    )
    frame = _wrapped(packet, chain, padding=padding)
    is_udp = service in {DNS, DNS6}
    order = chain[::-1] if is_udp else chain
    for server in order[:-1] if is_udp else ():
        on = redirect(frame, config(server), SameSocket())
        assert (on.verdict, on.counter) == ("redirect", "pass_on")
        assert on.frame is not None
        frame = on.frame
    end = redirect(frame, config(order[-1] if is_udp else order[0]), SameSocket())
    assert end.verdict == "ok"
    assert end.frame is not None
    kind = b"\x08\x00" if service in {HTTP, DNS} else b"\x86\xdd"
    assert end.frame == frame[:12] + kind + packet + padding
