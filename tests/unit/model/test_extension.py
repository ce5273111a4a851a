"""Reading of IPv6 extension headers, and of what of IPv4 is like it: wire.md, section 4.1."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.model.extension import Problem
from tests.model.frames import (
    Extension,
    authentication,
    destination_options,
    fragment_header,
    hop_by_hop,
    ipv4,
    ipv6,
    routing,
)
from tests.model.packet import IpPacket, read_packet
from tests.packets.world import CLIENT, CLIENT6, VIP, VIP6

PAYLOAD = bytes(20)
TRUNCATED, TOO_MANY = Problem.TRUNCATED, Problem.TOO_MANY


def _read(headers: Sequence[Extension], payload: bytes = PAYLOAD, *, cut: int = 0) -> IpPacket:
    packet = ipv6(CLIENT6, VIP6, 6, payload, headers=headers)
    read = read_packet(packet[: len(packet) - cut], 6)
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([hop_by_hop()], 8),
        ([hop_by_hop(256)], 256),
        ([routing(24)], 24),
        ([destination_options(64)], 64),
        ([fragment_header()], 8),
        ([authentication(8)], 8),
        ([authentication(12)], 12),
        ([authentication(256)], 256),
        ([destination_options(), authentication(28), routing(16)], 8 + 28 + 16),
        ([routing()] * 6, 48),
        ([fragment_header(), destination_options(248)], 256),
    ],
)
def test_lengths(headers: list[Extension], length: int) -> None:
    read = _read(headers)
    assert (read.protocol, read.upper_at, read.problem, read.fragment) == (
        6,
        40 + length,
        None,
        None,
    )


@pytest.mark.parametrize("number", [1, 6, 17, 41, 50, 58, 59, 132, 135, 139, 140, 253, 255])
def test_every_other_number_is_the_upper_layers(number: int) -> None:
    read = read_packet(ipv6(CLIENT6, VIP6, number, b"", headers=[routing()]), 6)
    assert read is not None
    assert (read.protocol, read.upper_at, read.problem) == (number, 48, None)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ([routing()] * 7, TOO_MANY),
        ([routing()] * 20, TOO_MANY),
        ([routing(264)], TOO_MANY),
        ([routing(2048)], TOO_MANY),
        ([authentication(260)], TOO_MANY),
        ([routing(248), authentication(12)], TOO_MANY),
        ([routing(128), fragment_header(), routing(128)], TOO_MANY),
        ([fragment_header(), fragment_header()], TRUNCATED),
        ([fragment_header(), routing(), fragment_header(7)], TRUNCATED),
        ([fragment_header(more=True), fragment_header()], TRUNCATED),
    ],
)
def test_problems(headers: list[Extension], problem: Problem) -> None:
    assert _read(headers).problem is problem


@pytest.mark.parametrize(("left", "problem"), [(0, TRUNCATED), (7, TRUNCATED), (8, None)])
@pytest.mark.parametrize("header", [routing(), fragment_header(), authentication(8), routing(64)])
def test_only_the_first_8_bytes_of_a_header_are_asked_for(
    header: Extension, left: int, problem: Problem | None
) -> None:
    whole = len(header.rest) + 1
    assert _read([header], b"", cut=whole - left).problem is problem


def test_the_seventh_is_too_many_before_it_is_truncated() -> None:
    assert _read([routing()] * 7, b"", cut=8).problem is TOO_MANY
    assert _read([routing()] * 6, b"", cut=8).problem is TRUNCATED


def test_truncated_before_too_long() -> None:
    assert _read([routing(264)], b"", cut=257).problem is TRUNCATED
    assert _read([routing(264)], b"", cut=256).problem is TOO_MANY


def test_too_long_before_a_second_fragment_header() -> None:
    over = [fragment_header(), routing(248), fragment_header()]
    assert _read(over).problem is TOO_MANY
    full = [fragment_header(), routing(240), fragment_header()]
    assert _read(full).problem is TRUNCATED


def test_a_chain_ends_at_a_later_fragment() -> None:
    """What stands behind it is payload, whatever it looks like."""
    read = _read([hop_by_hop(), fragment_header(1), *[routing()] * 9])
    assert (read.problem, read.is_later_fragment) == (None, True)
    assert (read.protocol, read.upper_at) == (43, 56)
    assert read.fragment is not None
    assert (read.fragment.protocol, read.fragment.identification) == (43, 0x12345678)


def test_a_later_fragment_as_the_seventh() -> None:
    assert _read([*[routing()] * 6, fragment_header(1)]).problem is TOO_MANY
    assert _read([*[routing()] * 5, fragment_header(1)]).problem is None


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (fragment_header(), "whole"),
        (fragment_header(reserved=0x3FF), "whole"),
        (fragment_header(more=True), "first"),
        (fragment_header(1), "later"),
        (fragment_header(1, more=True), "later"),
        (fragment_header(0x1FFF, reserved=3), "later"),
    ],
)
def test_fragments_of_ipv6(header: Extension, kind: str) -> None:
    read = _read([header])
    assert read.is_first_fragment == (kind == "first")
    assert read.is_later_fragment == (kind == "later")


def test_a_first_fragments_chain_is_read_on() -> None:
    read = _read([fragment_header(more=True, identification=7), destination_options(16)])
    assert (read.protocol, read.upper_at, read.is_first_fragment) == (6, 64, True)
    assert read.fragment is not None
    assert (read.fragment.protocol, read.fragment.identification) == (60, 7)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (0x0000, "whole"),
        (0x4000, "whole"),
        (0xC000, "whole"),
        (0x2000, "first"),
        (0x6000, "first"),
        (0xE000, "first"),
        (0x0001, "later"),
        (0x2001, "later"),
        (0x1FFF, "later"),
        (0x4001, "later"),
    ],
)
def test_fragments_of_ipv4(word: int, kind: str) -> None:
    read = read_packet(ipv4(CLIENT, VIP, 17, bytes(8), fragment=word), 4)
    assert read is not None
    assert read.is_first_fragment == (kind == "first")
    assert read.is_later_fragment == (kind == "later")
    assert read.dont_fragment == bool(word & 0x4000)
