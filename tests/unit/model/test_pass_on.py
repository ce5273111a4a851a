"""What passing on changes in a frame, and that it changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import SameSocket, redirect
from tests.model.checksum import internet_checksum
from tests.model.frames import ROUTER_MAC, SERVER_MAC, ethernet, gue_packet, tcp_packet
from tests.unit.model.world import CLIENT, CLIENT6, VIP, VIP6, config, dip, mac

DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=0x10, payload=b"data")
HOPS = [dip(3), dip(4)]
PADDING = b"\xaa" * 7


def _passed_on(packet: bytes, *, known_mac: bool = True) -> bytes:
    without = frozenset() if known_mac else frozenset({3, 4})
    result = redirect(ethernet(packet) + PADDING, config(2, no_mac=without), SameSocket())
    assert result.counter == "pass_on"
    assert result.frame is not None
    return result.frame


def test_source_destination_next_hop_and_checksum_change_and_nothing_else() -> None:
    before = gue_packet(dip(1), dip(2), DATA, HOPS, source_port=0xABCD, tos=0x2C)
    after = gue_packet(dip(2), dip(3), DATA, HOPS, source_port=0xABCD, tos=0x2C, next_hop=1)
    ours = mac(3) + mac(2)
    assert _passed_on(before) == ethernet(after, destination=ours[:6], source=ours[6:]) + PADDING


def test_ipv6_inside_is_not_touched_either() -> None:
    data = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=0x10, payload=b"data")
    before = gue_packet(dip(1), dip(2), data, HOPS)
    after = gue_packet(dip(2), dip(3), data, HOPS, next_hop=1)
    assert _passed_on(before) == ethernet(after, destination=mac(3), source=mac(2)) + PADDING


def test_the_second_pass_takes_the_second_hop() -> None:
    before = gue_packet(dip(1), dip(2), DATA, HOPS, next_hop=1)
    after = _passed_on(before)
    assert after[26:34] == dip(2).packed + dip(4).packed
    assert after[48:50] == bytes([2, 2])


def test_an_unknown_mac_sends_the_packet_back_where_it_came_from() -> None:
    frame = _passed_on(gue_packet(dip(1), dip(2), DATA, HOPS), known_mac=False)
    assert frame[:14] == ROUTER_MAC + SERVER_MAC + b"\x08\x00"


@pytest.mark.parametrize("checksum", [None, 0x0000, 0xFFFF, 0xBEEF])
def test_the_outer_checksum_is_right_whatever_it_was(checksum: int | None) -> None:
    frame = _passed_on(gue_packet(dip(1), dip(2), DATA, HOPS, outer_checksum=checksum))
    assert internet_checksum(frame[14:34]) == 0


def test_forward_syn_stays() -> None:
    syn = tcp_packet(CLIENT, 40000, VIP, 80)
    frame = _passed_on(gue_packet(dip(1), dip(2), syn, HOPS, private_flags=0x08))
    assert frame[46:50] == bytes([0x08, 0, 1, 2])


def test_the_next_hop_must_be_known_and_have_an_entry() -> None:
    frame = ethernet(gue_packet(dip(1), dip(2), DATA, HOPS))
    unknown = replace(config(2), known=frozenset({dip(1), dip(2), dip(4)}))
    assert redirect(frame, unknown, SameSocket()).counter == "drop_unknown_hop"
    no_entry = config(2, no_entry=frozenset({3}))
    assert redirect(frame, no_entry, SameSocket()).counter == "drop_no_dip"
    later_one = config(2, no_entry=frozenset({4}))
    assert redirect(frame, later_one, SameSocket()).counter == "pass_on"
