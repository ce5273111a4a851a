"""Frames for another host (wire.md, section 4.2): passed by, and nothing is done about them.

Each case is a packet with the counter that it has when it is addressed to this server, and the one
that it has when a switch floods it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import Config, FragmentKey, Memory, Result, UpperLayer, forward
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    ethernet,
    fragments_of,
    framed,
    gue_packet,
    icmp_error,
    icmp_packet,
    ipv4,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.packets.catalogue import FORWARDER_ROWS
from tests.packets.row import Row, name_of
from tests.packets.world import (
    ANSWER,
    ANSWER6,
    CLIENT,
    CLIENT6,
    DATA,
    DATA6,
    NO_VIP,
    NO_VIP6,
    NOPS,
    OTHER_VIP,
    ROUTER,
    ROUTER6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    VIP,
    VIP6,
    config,
    dip,
    mac,
    patched,
)

NEIGHBOUR, BROADCAST = bytes.fromhex("0200000000fe"), b"\xff" * 6
MULTICAST, MULTICAST6 = bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")
OTHERS = {
    "a neighbour": NEIGHBOUR,
    "the router": ROUTER_MAC,
    "another server": mac(2),
    "broadcast": BROADCAST,
    "multicast": MULTICAST,
    "multicast of IPv6": MULTICAST6,
    "zeros": bytes(6),
}
PASS_BY, NO_SERVICE, NOT_IP = "pass_other_host", "pass_no_service", "pass_not_ip"
NO_PACKET, MALFORMED, VIP_ICMP = "pass_malformed", "drop_malformed", "pass_vip_icmp"
TOO_MANY, SPOOFED, FORGOTTEN = "drop_ext_headers", "drop_spoofed", "drop_fragment"

SEVEN = [routing()] * 7
CUT6 = patched(tcp_packet(CLIENT6, 1, VIP6, 443, headers=[routing()])[:47], 4, b"\x00\x07")
GRE_IN_PIECES = ipv4(CLIENT, VIP, 47, b"rest", fragment=3)
TCP_IN_PIECES6 = fragments_of(tcp_packet(CLIENT6, 1, VIP6, 443), 8)[1]
FROM_OWN_DIP = udp_packet(dip(1), 40000, VIP, 6080)
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=bytes(60))
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=bytes(60))
PIECES = {"IPv4": fragments_of(QUERY, 24), "IPv6": fragments_of(QUERY6, 24)}
ICMP_FIRST = icmp_packet(CLIENT, VIP, payload=bytes(16), fragment=0x2000)
ICMP_LATER = icmp_packet(CLIENT, VIP, payload=bytes(16), fragment=3)

# Each line of section 4.2: the packet, its counter at its own server and elsewhere.
HERE, AWAY, BESIDE = config(1, (2,)), config(1, (2, 3)), config(1, (1, 3))
CASES: dict[str, tuple[bytes, Config, str, str]] = {
    "F4": (TCP[:19], HERE, NO_PACKET, NO_PACKET),
    "F4, IPv6": (TCP6[:39], HERE, NO_PACKET, NO_PACKET),
    "F5": (patched(TCP, 0, b"\x44"), HERE, MALFORMED, PASS_BY),
    "F5, options cut": (ipv4(CLIENT, VIP, 6, b"", ihl=6), HERE, MALFORMED, PASS_BY),
    "F5 elsewhere": (ipv4(CLIENT, NO_VIP, 6, b"", ihl=6), HERE, NO_SERVICE, NO_SERVICE),
    "F6, cut": (CUT6, HERE, MALFORMED, PASS_BY),
    "F6, cut, elsewhere": (patched(CUT6, 24, NO_VIP6.packed), HERE, NO_SERVICE, NO_SERVICE),
    "F6": (tcp_packet(CLIENT6, 1, VIP6, 443, headers=SEVEN), HERE, TOO_MANY, PASS_BY),
    "F6 elsewhere": (
        *(tcp_packet(CLIENT6, 1, NO_VIP6, 443, headers=SEVEN), HERE),
        *(NO_SERVICE, NO_SERVICE),
    ),
    "F7, first": (ICMP_FIRST, HERE, VIP_ICMP, PASS_BY),
    "F7, later": (ICMP_LATER, HERE, VIP_ICMP, PASS_BY),
    "F7 elsewhere": (patched(ICMP_LATER, 16, NO_VIP.packed), HERE, NO_SERVICE, NO_SERVICE),
    "F10": (ipv4(CLIENT, VIP, 47, bytes(30)), HERE, NO_SERVICE, NO_SERVICE),
    "F11": (TCP[:39], HERE, MALFORMED, PASS_BY),
    "F11, UDP, IPv6": (UDP6[:47], HERE, MALFORMED, PASS_BY),
    "F11 without a service": (
        *(tcp_packet(CLIENT, 1, VIP, 4444)[:39], HERE),
        *(MALFORMED, PASS_BY),
    ),
    "F11 elsewhere": (tcp_packet(CLIENT, 1, NO_VIP, 80)[:39], HERE, NO_SERVICE, NO_SERVICE),
    "F12 with a service": (FROM_OWN_DIP, HERE, SPOOFED, PASS_BY),
    "F12 at a VIP, no service": (
        *(udp_packet(dip(1), 40000, OTHER_VIP, 6080), HERE),
        *(SPOOFED, NO_SERVICE),
    ),
    "F12 to itself": (gue_packet(dip(1), dip(1), TCP), HERE, SPOOFED, NO_SERVICE),
    "F13": (tcp_packet(CLIENT, 1, VIP, 4444), HERE, NO_SERVICE, NO_SERVICE),
    "F13 elsewhere": (tcp_packet(CLIENT, 1, NO_VIP, 80), HERE, NO_SERVICE, NO_SERVICE),
    "F13, GUE": (gue_packet(dip(2), dip(1), TCP), HERE, NO_SERVICE, NO_SERVICE),
    "F14": (patched(TCP, 2, b"\x00\x00"), HERE, MALFORMED, PASS_BY),
    "F15": (tcp_packet(CLIENT, 1, VIP, 81), HERE, "drop_no_table", PASS_BY),
    "F16": (TCP, config(1, ()), "drop_no_bucket", PASS_BY),
    "F17": (TCP, config(1, (2,), no_entry=frozenset({2})), "drop_no_dip", PASS_BY),
    "F18": (TCP, config(1, (1,)), "pass_local", PASS_BY),
    "F19": (DATA6, BESIDE, "pass_to_self", PASS_BY),
    "F20, answered": (
        *(tcp_packet(CLIENT, 1, VIP, 80, payload=bytes(1460)), AWAY),
        *("tx_too_big", PASS_BY),
    ),
    "F20, dropped": (
        *(udp_packet(CLIENT, 1, VIP, 53, payload=bytes(1460), fragment=0), AWAY),
        *("drop_too_big", PASS_BY),
    ),
    "F21": (TCP, HERE, "tx_forward", PASS_BY),
    "F21, UDP, IPv6": (UDP6, HERE, "tx_forward", PASS_BY),
    "F21, options": (
        *(tcp_packet(CLIENT, 40000, VIP, 80, options=NOPS), HERE),
        *("tx_forward", PASS_BY),
    ),
    "F22": (UDP, AWAY, "tx_forward_chain", PASS_BY),
    "I1": (icmp_packet(CLIENT, NO_VIP), HERE, NO_SERVICE, NO_SERVICE),
    "I1, a DIP": (icmp_packet(dip(2), dip(1)), HERE, NO_SERVICE, NO_SERVICE),
    "I2": (icmp_packet(CLIENT, VIP)[:27], HERE, MALFORMED, PASS_BY),
    "I3": (icmp_packet(CLIENT, VIP), HERE, VIP_ICMP, PASS_BY),
    "I3, IPv6": (icmp_packet(CLIENT6, VIP6), HERE, VIP_ICMP, PASS_BY),
    "I4": (icmp_error(ROUTER, ANSWER[:19], destination=VIP), HERE, MALFORMED, PASS_BY),
    "I5": (icmp_error(ROUTER, ANSWER, destination=OTHER_VIP), HERE, MALFORMED, PASS_BY),
    "I6": (
        *(icmp_error(ROUTER6, tcp_packet(VIP6, 443, CLIENT6, 1, headers=SEVEN)), HERE),
        *(TOO_MANY, PASS_BY),
    ),
    "I7": (icmp_error(ROUTER, icmp_packet(VIP, CLIENT, kind=0)), HERE, VIP_ICMP, PASS_BY),
    "I8": (icmp_error(ROUTER, ANSWER[:27]), HERE, MALFORMED, PASS_BY),
    "I9": (icmp_error(ROUTER, tcp_packet(VIP, 4444, CLIENT, 1)), HERE, VIP_ICMP, PASS_BY),
    "an error about a flow": (icmp_error(ROUTER, ANSWER), HERE, "tx_forward", PASS_BY),
    "an error about a flow, IPv6": (icmp_error(ROUTER6, ANSWER6), HERE, "tx_forward", PASS_BY),
    "4.4, IPv4": (PIECES["IPv4"][1], HERE, FORGOTTEN, PASS_BY),
    "4.4, IPv6": (PIECES["IPv6"][1], HERE, FORGOTTEN, PASS_BY),
    "4.4 elsewhere": (ipv4(CLIENT, NO_VIP, 17, b"rest", fragment=3), HERE, NO_SERVICE, NO_SERVICE),
    "4.4, GRE": (GRE_IN_PIECES, HERE, NO_SERVICE, NO_SERVICE),
    "4.4, TCP, IPv6": (TCP_IN_PIECES6, HERE, FORGOTTEN, PASS_BY),
    "first fragment": (PIECES["IPv4"][0], HERE, "tx_forward", PASS_BY),
    "first fragment, IPv6": (PIECES["IPv6"][0], HERE, "tx_forward", PASS_BY),
}


def _to(address: bytes, frame: bytes) -> bytes:
    """The frame with another destination MAC."""
    return address[: len(frame)] + frame[6:]


def _assert_passed_by(result: Result, counter: str, frame: bytes) -> None:
    assert (result.verdict, result.counter, result.service) == ("pass", counter, None)
    assert result.frame == frame


@pytest.mark.parametrize("case", CASES)
def test_at_its_own_server(case: str) -> None:
    packet, here, counter, _ = CASES[case]
    assert forward(_to(here.mac, framed(packet)), here).counter == counter


@pytest.mark.parametrize("address", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("case", CASES)
def test_flooded(case: str, address: bytes) -> None:
    packet, here, _, counter = CASES[case]
    for tags in ((), (C_TAG,), (S_TAG, C_TAG)):
        frame = _to(address, framed(packet, tags=tags))
        _assert_passed_by(forward(frame, here), counter, frame)


@pytest.mark.parametrize("bit", range(48))
def test_every_bit_of_the_address_counts(bit: int) -> None:
    other = (int.from_bytes(HERE.mac, "big") ^ 1 << bit).to_bytes(6, "big")
    frame = _to(other, framed(TCP))
    _assert_passed_by(forward(frame, HERE), PASS_BY, frame)


def test_the_source_address_does_not_count() -> None:
    for source in (HERE.mac, NEIGHBOUR, BROADCAST):
        sent = forward(ethernet(TCP, destination=HERE.mac, source=source), HERE)
        assert sent.counter == "tx_forward"
        by = ethernet(TCP, destination=NEIGHBOUR, source=source)
        _assert_passed_by(forward(by, HERE), PASS_BY, by)


def test_the_address_is_the_interfaces_and_no_servers_entry() -> None:
    """Another interface than the one that the entry of this server's DIP has."""
    moved = replace(HERE, mac=NEIGHBOUR)
    assert forward(_to(NEIGHBOUR, framed(TCP)), moved).counter == "tx_forward"
    assert forward(_to(HERE.mac, framed(TCP)), moved).counter == PASS_BY


@pytest.mark.parametrize(
    ("frame", "counter"),
    [
        (b"", NOT_IP),
        (NEIGHBOUR[:5], NOT_IP),
        (ethernet(b"", destination=NEIGHBOUR)[:13], NOT_IP),
        (ethernet(bytes(46), destination=BROADCAST, kind=0x0806), NOT_IP),
        (ethernet(TCP, destination=NEIGHBOUR, tags=[C_TAG, C_TAG, C_TAG]), NOT_IP),
        (ethernet(b"\x00", destination=NEIGHBOUR, kind=0x8100), NO_PACKET),
        (ethernet(TCP6, destination=NEIGHBOUR, kind=0x0800), NO_PACKET),
    ],
)
def test_what_is_no_ip_is_so_for_everybody(frame: bytes, counter: str) -> None:
    _assert_passed_by(forward(frame, HERE), counter, frame)


@pytest.mark.parametrize("tags", [(), (C_TAG,), (S_TAG, C_TAG)])
def test_a_flooded_packet_is_forwarded_once(tags: tuple[bytes, ...]) -> None:
    fleet = [replace(config(number, (2, 3)), mac=mac(number)) for number in range(1, 5)]
    for chosen in fleet:
        frame = _to(chosen.mac, framed(DATA, tags=tags))
        for server in fleet:
            result = forward(frame, server)
            if server is chosen:
                assert result.counter in {"tx_forward_chain", "pass_to_self"}
            else:
                _assert_passed_by(result, PASS_BY, frame)


# Fragments


@pytest.mark.parametrize("family", PIECES)
def test_a_first_fragment_of_anothers_is_not_remembered(family: str) -> None:
    first, later = PIECES[family][:2]
    memory = Memory()
    frame = _to(NEIGHBOUR, framed(first))
    _assert_passed_by(forward(frame, HERE, memory), PASS_BY, frame)
    assert len(memory.fragments) == 0
    assert forward(_to(HERE.mac, framed(later)), HERE, memory).counter == FORGOTTEN


@pytest.mark.parametrize("family", PIECES)
def test_a_later_fragment_of_anothers_whose_first_is_remembered(family: str) -> None:
    first, later = PIECES[family][:2]
    memory = Memory()
    assert forward(_to(HERE.mac, framed(first)), HERE, memory).counter == "tx_forward"
    frame = _to(NEIGHBOUR, framed(later))
    _assert_passed_by(forward(frame, HERE, memory), PASS_BY, frame)
    assert forward(_to(HERE.mac, framed(later)), HERE, memory).counter == "tx_forward"


def test_a_later_fragment_of_anothers_whose_service_is_gone() -> None:
    """F13 is asked before F13b."""
    memory = Memory()
    memory.fragments.remember(FragmentKey(CLIENT, VIP, 0x1234, 17), UpperLayer(17, 1, 4444))
    frame = _to(NEIGHBOUR, framed(PIECES["IPv4"][1]))
    _assert_passed_by(forward(frame, HERE, memory), NO_SERVICE, frame)


def test_a_packet_of_anothers_takes_no_answer() -> None:
    memory = Memory(answers_left=1)
    big, here, _, _ = CASES["F20, answered"]
    for _ in range(3):
        assert forward(_to(NEIGHBOUR, framed(big)), here, memory).counter == PASS_BY
    assert memory.answers_left == 1
    assert forward(_to(here.mac, framed(big)), here, memory).counter == "tx_too_big"


# All rows, flooded


@pytest.mark.parametrize("row", FORWARDER_ROWS, ids=name_of)
def test_no_row_is_more_than_passed_by(row: Row) -> None:
    """Whatever a row expects of its packets, flooded they are passed as they came."""
    memory = Memory(answers_left=64)
    for packet in row.packets:
        here = packet.config or row.config
        frame = _to(BROADCAST, packet.frame)
        result = forward(frame, here, memory)
        _assert_passed_by(result, result.counter, frame)
        own = forward(_to(here.mac, packet.frame), here).counter
        if own in {NOT_IP, NO_PACKET, NO_SERVICE}:
            assert result.counter == own
        elif own == SPOOFED:
            assert result.counter in {PASS_BY, NO_SERVICE}
        else:
            assert result.counter == PASS_BY
    assert len(memory.fragments) == 0
    assert memory.answers_left == 64


def test_a_mac_has_6_bytes() -> None:
    for wrong in (b"", bytes(5), bytes(7)):
        with pytest.raises(ValueError, match="a MAC has 6 bytes"):
            replace(HERE, mac=wrong)
