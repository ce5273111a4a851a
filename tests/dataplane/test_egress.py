"""The egress program in the kernel, frame by frame, beside the model (wire.md, section 8)."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import pytest

from lb import abi
from lb.dataplane.dataplane import RESET_COUNTS, RESETS
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.resets import ResetCounts
from tests.dataplane.rig import Rig
from tests.fuzz.kernel import clear_map, first_key, map_read, map_write
from tests.model import Flow
from tests.model.egress import reset_flow
from tests.model.frames import ethernet, tcp_packet, udp_packet
from tests.packets.world import (
    AT_REST,
    CLIENT,
    CLIENT6,
    FAMILIES,
    IN_WIDE,
    NO_VIP,
    NO_VIP6,
    VIP,
    VIP6,
)

NEXT = 0xFFFFFFFF
RST, ACK, SYN, FIN = 4, 16, 2, 1
KINDS = {4: 0x0800, 6: 0x86DD}
MAP_TYPE_LRU_HASH = 9
SECOND = 10**9
EGRESS_LIMIT = 96


class Address(NamedTuple):
    """A VIP and a client of one family."""

    vip: IPv4Address | IPv6Address
    client: IPv4Address | IPv6Address


def reset(vip: object = VIP, client: object = CLIENT, flags: int = RST, **shape: object) -> bytes:
    """A frame with a segment from a VIP."""
    packet = tcp_packet(vip, 80, client, 40000, flags=flags, **shape)  # type: ignore[arg-type]
    return ethernet(packet, kind=KINDS[vip.version])  # type: ignore[attr-defined]


ROWS = {
    "a reset without ACK": (reset(), True),
    "of IPv6": (reset(VIP6, CLIENT6), True),
    "of an address in a prefix": (reset(IN_WIDE), True),
    "with other flags beside it": (reset(flags=RST | FIN), True),
    "with ACK": (reset(flags=RST | ACK), False),
    "with ACK, of IPv6": (reset(VIP6, CLIENT6, RST | ACK), False),
    "an acknowledgement": (reset(flags=ACK), False),
    "a SYN-ACK": (reset(flags=SYN | ACK), False),
    "from another address": (reset(NO_VIP), False),
    "from another address, of IPv6": (reset(NO_VIP6, CLIENT6), False),
    "to a VIP, from a client": (reset(CLIENT, VIP), False),
    "with IP options": (reset(options=bytes(4)), False),
    "the first of fragments": (reset(fragment=0x2000), False),
    "a later fragment": (reset(fragment=0x0005), False),
    "with don't fragment": (reset(fragment=0x4000), True),
    "UDP": (ethernet(udp_packet(VIP, 53, CLIENT, 40000, payload=bytes([RST] * 40))), False),
    "the longest": (reset(payload=bytes(EGRESS_LIMIT - 54)), True),
    "longer": (reset(payload=bytes(EGRESS_LIMIT - 54 + 1)), False),
    "longer, of IPv6": (reset(VIP6, CLIENT6, payload=bytes(23)), False),
    "cut off": (reset()[:-1], False),
    "cut off, of IPv6": (reset(VIP6, CLIENT6)[:-1], False),
    "neither of IPv4 nor of IPv6": (reset()[:12] + b"\x08\x06" + reset()[14:], False),
}


@pytest.fixture
def egress(rig: Rig) -> Iterator[Rig]:
    """The programs with the services of the rows, and nothing remembered."""
    rig.configure(AT_REST)
    clear_map(rig.dataplane.map_fd(RESETS))
    yield rig
    clear_map(rig.dataplane.map_fd(RESETS))


def leave(rig: Rig, frame: bytes) -> Flow | None:
    """Have a frame leave; return the flow that is noted. The frame must go on as it is."""
    before = rig.dataplane.reset_counts()
    run = bpf_syscall.prog_test_run(rig.dataplane.egress_fd, frame)
    assert (run.retval, run.data) == (NEXT, frame)
    after = rig.dataplane.reset_counts()
    found = rig.dataplane.reset_flows().flows
    if after == before:
        assert len(found) == 0
        return None
    assert after == (before.first + 1, before.again)
    (flow,) = found
    packed = {name: flow[name].tobytes() for name in ("client", "vip", "ports")}
    size, kind = (4, IPv4Address) if int(flow["version"]) == 4 else (16, IPv6Address)
    assert packed["client"][size:] + packed["vip"][size:] == bytes(2 * (16 - size))
    source, destination = struct.unpack(">HH", packed["ports"])
    client, vip = (kind(packed[name][:size]) for name in ("client", "vip"))
    return Flow(6, client, source, vip, destination)


@pytest.mark.parametrize("name", ROWS)
def test_resets_without_ack_from_vips_are_noted_and_nothing_else(egress: Rig, name: str) -> None:
    frame, noted = ROWS[name]
    wanted = reset_flow(frame, AT_REST)
    assert (wanted is not None) == noted
    assert leave(egress, frame) == wanted


def test_a_frame_with_anything_in_it_is_noted_as_the_model_does(egress: Rig) -> None:
    numbers = random.Random(7)
    fd, noted = egress.dataplane.map_fd(RESETS), 0
    for _ in range(4000):
        vip, client = numbers.choice(FAMILIES)
        shape = {"payload": bytes(numbers.choice((0, 0, 12, 22, 42, 60)))}
        frame = bytearray(reset(vip, client, numbers.choice((RST, RST | ACK, ACK)), **shape))
        for _ in range(numbers.choice((0, 0, 1, 2))):
            frame[numbers.randrange(12, len(frame))] = numbers.choice((0, 4, 6, 0x45, 0x14, 255))
        least = 34 if vip.version == 4 else 54  # a test run takes no less
        cut = bytes(frame[: numbers.randrange(least, len(frame) + 1)])
        given = numbers.choice((bytes(frame), cut))
        wanted = reset_flow(given, AT_REST)
        assert leave(egress, given) == wanted
        noted += wanted is not None
        clear_map(fd)
    assert noted > 400


@pytest.mark.parametrize("family", FAMILIES, ids=["v4", "v6"])
def test_the_other_resets_of_a_flow_are_counted_apart_for_a_minute(
    egress: Rig, family: Address
) -> None:
    frame, fd = reset(*family), egress.dataplane.map_fd(RESETS)
    before = egress.dataplane.reset_counts()

    def grown() -> ResetCounts:
        bpf_syscall.prog_test_run(egress.dataplane.egress_fd, frame)
        now = egress.dataplane.reset_counts()
        return ResetCounts(now.first - before.first, now.again - before.again)

    def age(seconds: int) -> None:
        map_write(fd, key, struct.pack("=Q", first - seconds * SECOND))

    assert grown() == (1, 0)
    key = first_key(fd)
    (first,) = struct.unpack("=Q", map_read(fd, key, 8))
    assert grown() == (1, 1)
    age(58)
    assert grown() == (1, 2), "and the time of the first is kept"
    age(61)
    assert grown() == (2, 2)
    assert struct.unpack("=Q", map_read(fd, key, 8))[0] > first
    other = tcp_packet(family[0], 80, family[1], 40001, flags=RST)
    frame = ethernet(other, kind=KINDS[family[0].version])
    assert grown() == (3, 2)
    assert len(egress.dataplane.reset_flows().flows) == 2


def test_flows_with_resets_are_bounded(rig: Rig) -> None:
    info = bpf_syscall.map_info(rig.dataplane.map_fd(RESETS))
    assert (info.map_type, info.max_entries) == (MAP_TYPE_LRU_HASH, abi.RESETS)
    assert bpf_syscall.map_info(rig.dataplane.map_fd(RESET_COUNTS)).max_entries == 2
