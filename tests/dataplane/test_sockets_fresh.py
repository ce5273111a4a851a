"""UDP flows that were delivered here and have no connected socket yet (wire.md, section 6.4)."""

from __future__ import annotations

import socket
import struct

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import UDP_PORT, C, Case, D, Family
from tests.dataplane.socket_states import PLAIN, RARE, families
from tests.fuzz.kernel import first_key, map_read, map_write
from tests.model import SocketState
from tests.model.frames import udp_packet

CLIENT_PORT = 5353
FRESH_SECONDS = 5
MOST_FLOWS = 8192
MAP_TYPE_LRU_HASH = 9
FRESH = "lb_fresh"
shapes = pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])


def datagram(family: Family, port: int = CLIENT_PORT, *, rare: bool = False) -> bytes:
    shape = RARE[family.version] if rare else PLAIN
    return udp_packet(family.client, port, family.vip, UDP_PORT, payload=b"x", **shape)


def deliver(case: Case, packet: bytes, state: SocketState = SocketState.UDP_UNCONNECTED) -> None:
    """Have a datagram arrive here as the last server that it visits."""
    assert case.ask(packet, state, hops=(C, D), next_hop=2) == "accept_last_hop"


def only_flow(fd: int) -> tuple[bytes, int]:
    """The key of the only fresh flow, and when it was delivered."""
    key = first_key(fd)
    return key, struct.unpack("=Q", map_read(fd, key, 8))[0]


def deliver_earlier(fd: int, seconds: float) -> None:
    """Move the only fresh flow's delivery into the past."""
    key, delivered = only_flow(fd)
    map_write(fd, key, struct.pack("=Q", delivered - int(seconds * 1e9)))


@families
@shapes
def test_a_flow_that_was_delivered_here_stays_before_it_has_a_socket(
    case: Case, family: Family, rare: bool
) -> None:
    case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT)
    assert case.ask(datagram(family, rare=rare), SocketState.UDP_UNCONNECTED) == "pass_on"
    deliver(case, datagram(family, rare=rare))
    for shape in (False, True):
        mine, other = datagram(family, rare=shape), datagram(family, CLIENT_PORT + 1, rare=shape)
        assert case.ask(mine, SocketState.UDP_UNCONNECTED) == "accept_udp_socket"
        assert case.ask(other, SocketState.UDP_UNCONNECTED) == "pass_on"


@families
def test_a_flow_of_a_bucket_at_rest_is_not_remembered(case: Case, family: Family) -> None:
    packet = datagram(family)
    assert case.ask(packet, SocketState.NONE, hops=()) == "accept_last_hop"
    assert case.ask(packet, SocketState.NONE) == "pass_on"


@families
def test_a_flow_with_a_connected_socket_is_not_remembered(case: Case, family: Family) -> None:
    with case.open(socket.SOCK_DGRAM, family.vip, UDP_PORT) as connected:
        connected.connect((str(family.client), CLIENT_PORT))
        deliver(case, datagram(family), SocketState.UDP_CONNECTED)
    assert case.ask(datagram(family), SocketState.NONE) == "pass_on"


@families
def test_a_flow_is_fresh_for_five_seconds_from_its_delivery(case: Case, family: Family) -> None:
    fd, packet = case.rig.dataplane.map_fd(FRESH), datagram(family)
    deliver(case, packet)
    deliver_earlier(fd, FRESH_SECONDS - 2)
    before = only_flow(fd)
    assert case.ask(packet, SocketState.NONE) == "accept_udp_socket"
    assert only_flow(fd) == before
    deliver_earlier(fd, 2)
    case.memory.fresh.forget()
    assert case.ask(packet, SocketState.NONE) == "pass_on"
    deliver(case, packet)
    assert case.ask(packet, SocketState.NONE) == "accept_udp_socket"


def test_fresh_flows_are_bounded(rig: Rig) -> None:
    info = bpf_syscall.map_info(rig.dataplane.map_fd(FRESH))
    assert (info.map_type, info.max_entries) == (MAP_TYPE_LRU_HASH, MOST_FLOWS)
