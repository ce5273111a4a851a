"""Path probes at the redirector: wire.md, line R9 and section 7.2, and what just misses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from tests.model import Config, Outcome, Result, Server, Service, redirect, trace
from tests.model.frames import (
    ethernet,
    gue_packet,
    icmp_error,
    icmp_packet,
    ipv4,
    tcp_packet,
    udp_packet,
)
from tests.packets.judge import NeverAsked
from tests.packets.page import checks
from tests.packets.world import (
    AT_HOP,
    CLIENT,
    NOPS,
    PROBER,
    STRANGER,
    VIP,
    config,
    dip,
    patched,
)

A, B, C, D = (dip(number) for number in range(1, 5))
A6, B6 = IPv6Address("::ffff:10.0.0.1"), IPv6Address("::ffff:10.0.0.2")
ACCEPTED, NOT_VIP = "accept_path_probe", "drop_not_vip"
WRAP = 36
FORWARD_SYN = 0x08
SMALL = icmp_packet(A, B, payload=bytes(range(36)))
FULL = icmp_packet(A, B, payload=bytes(1500 - WRAP - 28))
ECHO = SMALL[20:]


def _sent(inner: bytes, hops: Sequence[IPv4Address] = (), source: IPv4Address = A) -> bytes:
    """What a server sends to this one, B."""
    return ethernet(gue_packet(source, B, inner, hops))


def _seen(frame: bytes, here: Config = AT_HOP) -> Result:
    """What B does; a probe never asks the sockets, nor does what is dropped for its address."""
    return redirect(frame, here, NeverAsked())


def _inner(*, protocol: int = 1, **fields: Any) -> bytes:
    """A small probe with some fields of its IP header changed."""
    return ipv4(A, B, protocol, ECHO, **fields)


def test_the_line_has_both_of_its_ends() -> None:
    probe, anything_else = checks(6)["R9"]
    assert (probe.verdict, probe.counter) == ("ok", ACCEPTED)
    assert (anything_else.verdict, anything_else.counter) == ("drop", NOT_VIP)


PROBES = {
    "small": SMALL,
    "full size": FULL,
    "28 bytes": icmp_packet(A, B),
    "29 bytes": icmp_packet(A, B, payload=b"x"),
    "without DF": _inner(fragment=0),
    "with the reserved bit": _inner(fragment=0xC000),
    "TTL 1": _inner(ttl=1),
    "another identification": _inner(identification=0),
    "a wrong header checksum": _inner(checksum=0xBEEF),
    "a wrong ICMP checksum": patched(SMALL, 22, b"\xbe\xef"),
    "another echo identifier": icmp_packet(A, B, word=0xFFFF0000),
    "TOS": _inner(tos=0xB8),
}


@pytest.mark.parametrize("padding", [b"", b"\xaa" * 7])
@pytest.mark.parametrize("inner", PROBES.values(), ids=PROBES)
def test_accepted(inner: bytes, padding: bytes) -> None:
    frame = _sent(inner) + padding
    result = _seen(frame)
    assert (result.verdict, result.counter, result.service) == ("ok", ACCEPTED, None)
    assert result.frame == frame[:12] + b"\x08\x00" + inner + padding


def test_the_sizes_of_section_7_2() -> None:
    small, full = _sent(SMALL), _sent(FULL)
    assert (int.from_bytes(small[52:54], "big"), len(SMALL)) == (64, 64)
    assert int.from_bytes(full[16:18], "big") == AT_HOP.mtu


def test_from_a_prober() -> None:
    assert _seen(_sent(icmp_packet(PROBER, B), source=PROBER)).counter == ACCEPTED


def test_from_this_server_itself() -> None:
    assert _seen(_sent(icmp_packet(B, B), source=B)).counter == ACCEPTED


def test_outside_only_what_r1_to_r8_ask_for() -> None:
    """The private flag forward_syn is about a SYN; a port, TOS, TTL are anything."""
    for packet in (
        gue_packet(A, B, SMALL, private_flags=FORWARD_SYN),
        gue_packet(A, B, SMALL, source_port=1),
        gue_packet(A, B, SMALL, tos=0xB8),
        gue_packet(A, B, SMALL, fragment=0),
        gue_packet(A, B, SMALL, outer_checksum=7),
    ):
        assert _seen(ethernet(packet)).counter == ACCEPTED


def test_another_gue_port() -> None:
    elsewhere = replace(AT_HOP, gue_port=19523)
    assert _seen(ethernet(gue_packet(A, B, SMALL, gue_port=19523)), elsewhere).counter == ACCEPTED
    assert _seen(_sent(SMALL), elsewhere).counter == "ok_not_gue"


def test_without_services_and_tables() -> None:
    bare = replace(AT_HOP, services=(), pools={}, dips={})
    assert _seen(_sent(SMALL), bare).counter == ACCEPTED


def test_the_mtu_does_not_matter() -> None:
    assert _seen(_sent(FULL), config(2, mtu=576)).counter == ACCEPTED


MISSED = {
    "IPv6": _sent(icmp_packet(A6, B6)),
    "IPv6, between clients": _sent(icmp_packet(A6 + 1, B6 + 1)),
    "a hop behind": ethernet(gue_packet(A, B, SMALL, [C], next_hop=1)),
    "a hop ahead": _sent(SMALL, [C]),
    "three hops behind": ethernet(gue_packet(A, B, SMALL, [C, D, A], next_hop=3)),
    "three hops ahead": _sent(SMALL, [C, D, A]),
    "options": _sent(ipv4(A, B, 1, ECHO, options=NOPS)),
    "options that look like an echo request": _sent(ipv4(A, B, 1, ECHO, options=ECHO[:4])),
    "ICMPv6 in IPv4": _sent(_inner(protocol=58)),
    "protocol 0": _sent(_inner(protocol=0)),
    "GRE": _sent(_inner(protocol=47)),
    "TCP": _sent(tcp_packet(A, 0x0800, B, 80)),
    "UDP": _sent(udp_packet(A, 0x0800, B, 53)),
    "TCP SYN to the GUE port": _sent(tcp_packet(A, 40000, B, 6080)),
    "GUE in GUE": _sent(gue_packet(A, B, SMALL)),
    "a first fragment": _sent(_inner(fragment=0x2000)),
    "a first fragment with DF": _sent(_inner(fragment=0x6000)),
    "a later fragment": _sent(_inner(fragment=0x0001)),
    "the last fragment, far off": _sent(_inner(fragment=0x1FFF)),
    "a fragment in the middle": _sent(_inner(fragment=0x2001)),
    "27 bytes": _sent(ipv4(A, B, 1, ECHO[:7])),
    "22 bytes": _sent(ipv4(A, B, 1, ECHO[:2])),
    "21 bytes": _sent(ipv4(A, B, 1, ECHO[:1])),
    "20 bytes": _sent(ipv4(A, B, 1, b"")),
    "27 bytes and padding": _sent(ipv4(A, B, 1, ECHO[:7])) + b"\x00",
    "a reply": _sent(icmp_packet(A, B, kind=0)),
    "type 128": _sent(icmp_packet(A, B, kind=128)),
    "a timestamp request": _sent(icmp_packet(A, B, kind=13)),
    "a redirect": _sent(icmp_packet(A, B, kind=5)),
    "code 1": _sent(icmp_packet(A, B, code=1)),
    "an error about a probe": _sent(icmp_error(A, icmp_packet(B, A))),
    "to another server": _sent(icmp_packet(A, C)),
    "to where it comes from": _sent(icmp_packet(A, A)),
    "to a prober": _sent(icmp_packet(A, PROBER)),
    "to a stranger": _sent(icmp_packet(A, STRANGER)),
    "to everybody": _sent(icmp_packet(A, IPv4Address("255.255.255.255"))),
    "from another server": _sent(icmp_packet(C, B)),
    "from this server": _sent(icmp_packet(B, B)),
    "from a prober, sent by a server": _sent(icmp_packet(PROBER, B)),
    "from a server, sent by a prober": _sent(SMALL, source=PROBER),
    "from a client": _sent(icmp_packet(CLIENT, B)),
    "from a VIP": _sent(icmp_packet(VIP, B)),
    "from nobody": _sent(icmp_packet(IPv4Address(0), B)),
    "the two addresses exchanged": _sent(icmp_packet(B, A)),
}


@pytest.mark.parametrize("frame", MISSED.values(), ids=MISSED)
def test_just_missed(frame: bytes) -> None:
    result = _seen(frame)
    assert (result.verdict, result.counter, result.frame) == ("drop", NOT_VIP, None)


EARLIER = {
    "R1": (ethernet(gue_packet(A, C, SMALL)), "ok_not_gue"),
    "R1, without the wrap": (ethernet(SMALL), "ok_not_gue"),
    "R2": (_sent(SMALL)[:-1], "drop_gue_malformed"),
    "R2, checksum": (ethernet(gue_packet(A, B, SMALL, udp_checksum=1)), "drop_gue_malformed"),
    "R3": (ethernet(gue_packet(A, B, SMALL, gue_flags=1)), "drop_gue_malformed"),
    "R3, proto": (ethernet(gue_packet(A, B, SMALL, proto=1)), "drop_gue_malformed"),
    "R4": (_sent(icmp_packet(STRANGER, B), source=STRANGER), "drop_unknown_source"),
    "R4, a client": (_sent(icmp_packet(CLIENT, B), source=CLIENT), "drop_unknown_source"),
    "R4, a VIP": (_sent(icmp_packet(VIP, B), source=VIP), "drop_unknown_source"),
    "R5": (_sent(SMALL, [B]), "drop_hop_loop"),
    "R6": (_sent(SMALL, [STRANGER]), "drop_unknown_hop"),
    "R7, one byte more": (_sent(SMALL + b"\x00"), "drop_inner_malformed"),
    "R7, one byte less": (_sent(SMALL[:-1]), "drop_inner_malformed"),
    "R7, version": (ethernet(gue_packet(A, B, patched(SMALL, 0, b"\x65"), proto=4)),
                    "drop_inner_malformed"),
    "R7, ihl": (_sent(patched(SMALL, 0, b"\x44")), "drop_inner_malformed"),
    "R8": (ethernet(gue_packet(A, B, SMALL, proto=41)), "drop_inner_malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "counter"), EARLIER.values(), ids=EARLIER)
def test_earlier_lines_come_first(frame: bytes, counter: str) -> None:
    assert _seen(frame).counter == counter


def test_a_line_that_comes_before_it_lets_no_stranger_be_answered() -> None:
    """A probe from an address that is neither known nor a prober's is none, whatever is inside."""
    alone = replace(AT_HOP, known=frozenset({B}), probers=frozenset())
    assert _seen(_sent(SMALL), alone).counter == "drop_unknown_source"


@pytest.mark.parametrize(
    ("inner", "outer", "after"),
    [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, None), (2, 3, 3), (2, 1, 1), (1, 3, 3), (3, 0, 3)],
)
def test_ecn_as_with_every_accept(inner: int, outer: int, after: int | None) -> None:
    result = _seen(ethernet(gue_packet(A, B, _inner(tos=inner), tos=outer)))
    if after is None:
        assert (result.verdict, result.counter, result.frame) == ("drop", "drop_ecn", None)
        return
    assert (result.counter, result.frame) == (ACCEPTED, ethernet(_inner(tos=after)))


def test_a_dip_that_is_a_vip_of_ours_has_ordinary_echo_requests() -> None:
    """R9 does not apply, so the echo request is judged like any other for a VIP."""
    covered = Service(IPv4Network("10.0.0.0/29"), 6, None, "web")
    here = replace(AT_HOP, services=(*AT_HOP.services, covered))
    assert _seen(_sent(SMALL), here).counter == "accept_last_hop"
    assert _seen(_sent(icmp_packet(CLIENT, B)), here).counter == "accept_last_hop"


def test_an_echo_request_to_a_vip_is_none() -> None:
    for source in (A, CLIENT):
        assert _seen(_sent(icmp_packet(source, VIP))).counter == "accept_last_hop"


def _bits(*ranges: tuple[int, int]) -> set[int]:
    """Bits of a frame by bytes, from the first to before the last."""
    return {8 * at + bit for start, end in ranges for at in range(start, end) for bit in range(8)}


def test_every_bit_that_counts_and_no_other() -> None:
    """Each bit of a probe turned over by itself: what it may be and still be accepted."""
    free = _bits(
        (0, 12),  # MACs
        (15, 16),  # outer TOS: one bit turned over is not yet CE
        (18, 20),  # outer id
        (22, 23),  # outer TTL
        (24, 26),  # outer checksum
        (34, 36),  # outer source port
        (51, 52),  # inner TOS: outside there is no mark
        (54, 56),  # inner id
        (58, 59),  # inner TTL
        (60, 62),  # inner checksum
        (72, 78),  # ICMP checksum, identifier, sequence
    )
    free |= {8 * 20, 8 * 20 + 1, 8 * 56, 8 * 56 + 1}  # outer and inner: reserved bit and DF
    free |= {8 * 46 + 4}  # forward_syn
    frame = _sent(icmp_packet(A, B))
    assert len(frame) == 78
    accepted = set()
    for bit in range(8 * len(frame)):
        turned = bytearray(frame)
        turned[bit // 8] ^= 0x80 >> bit % 8
        if _seen(bytes(turned)).counter == ACCEPTED:
            accepted.add(bit)
    assert accepted == free


def test_its_way_ends_in_the_stack_of_the_server() -> None:
    fleet = {dip(number): Server(config(number, (1, 2))) for number in range(1, 5)}
    path = trace(_sent(SMALL), B, fleet)
    assert path.counters == ("pass_no_service", ACCEPTED)
    assert (path.outcome, path.last_server) == (Outcome.DELIVERED, B)
