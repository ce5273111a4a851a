"""The bytes of the wrap: a golden frame, an independent dissector, and the way back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.model import SameSocket, forward, redirect
from tests.model.frames import ROUTER_MAC, SERVER_MAC, ethernet, tcp_packet, udp_packet
from tests.unit.model.world import CLIENT, DNS, HTTP, KEY, SERVICES, VIP, config, dip, flow, mac

PADDING = b"\xaa\xbb\xcc\xdd\xee\xff"
PACKET = tcp_packet(CLIENT, 40000, VIP, 80, tos=0xB9)
CHAINS = st.lists(st.integers(2, 4), min_size=1, max_size=3, unique=True).map(tuple)


def _wrapped(packet: bytes, chain: tuple[int, ...], *, padding: bytes = b"") -> bytes:
    """The frame that server 1 sends."""
    result = forward(ethernet(packet) + padding, config(1, chain))
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


@given(
    chain=CHAINS,
    tos=st.integers(0, 255),
    payload=st.binary(max_size=60),
    service=st.sampled_from([HTTP, DNS]),
    padding=st.binary(max_size=20),
)
def test_what_is_accepted_is_what_was_wrapped(
    chain: tuple[int, ...], tos: int, payload: bytes, service: int, padding: bytes
) -> None:
    target = SERVICES[service]
    make = tcp_packet if service == HTTP else udp_packet
    packet = make(CLIENT, 40000, target.vip, target.port, tos=tos, payload=payload)
    frame = _wrapped(packet, chain, padding=padding)
    order = chain if service == HTTP else chain[::-1]
    for server in order[:-1] if service == DNS else ():
        on = redirect(frame, config(server), SameSocket())
        assert (on.verdict, on.counter) == ("redirect", "pass_on")
        assert on.frame is not None
        frame = on.frame
    end = redirect(frame, config(order[0] if service == HTTP else order[-1]), SameSocket())
    assert end.verdict == "ok"
    assert end.frame is not None
    assert end.frame[14:] == packet + padding
