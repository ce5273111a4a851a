"""Whatever arrives, the model has a verdict with a documented name, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import (
    FORWARDER_COUNTERS,
    KERNEL_COUNTERS,
    REDIRECTOR_COUNTERS,
    SameSocket,
    SocketState,
    forward,
    redirect,
)
from tests.model.frames import ethernet, gue_packet, icmp_packet, tcp_packet, udp_packet
from tests.unit.model.world import CLIENT, DNS, VIP, config, dip

HOPS = [dip(3), dip(4), dip(1)]
ACK = tcp_packet(CLIENT, 40000, VIP, 80, flags=0x10, payload=b"data")
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
FRAMES = {
    "TCP": ethernet(ACK),
    "UDP": ethernet(QUERY),
    "echo": ethernet(icmp_packet(CLIENT, VIP)),
    "GUE": ethernet(gue_packet(dip(1), dip(2), ACK, HOPS)),
    "GUE at the end": ethernet(gue_packet(dip(1), dip(2), QUERY, HOPS, next_hop=3)),
    "GUE with an echo": ethernet(gue_packet(dip(1), dip(2), icmp_packet(CLIENT, VIP), HOPS)),
}
CHAINS = st.lists(st.integers(0, 5), max_size=4).map(tuple)
EDITS = st.lists(st.tuples(st.integers(0, 120), st.binary(min_size=1, max_size=4)), max_size=4)


def _judge(frame: bytes, chain: tuple[int, ...], state: SocketState) -> None:
    """What holds for every frame."""
    here = config(2, chain, mtu=100)
    first = forward(frame, here)
    assert first.counter in FORWARDER_COUNTERS - KERNEL_COUNTERS
    assert first.verdict == first.counter.split("_")[0]
    assert (first.frame is None) == (first.verdict == "drop")
    if first.verdict == "pass" and first.counter != "pass_to_self":
        assert first.frame == frame
    second = redirect(frame, here, SameSocket(state))
    assert second.counter in REDIRECTOR_COUNTERS - KERNEL_COUNTERS
    assert (second.frame is None) == (second.verdict == "drop")
    assert second.service is None
    if second.verdict == "redirect":
        assert second.frame is not None
        assert len(second.frame) == len(frame)


@pytest.mark.parametrize("name", FRAMES)
def test_truncated_at_every_offset(name: str) -> None:
    frame = FRAMES[name]
    for length in range(len(frame) + 1):
        for state in SocketState:
            _judge(frame[:length], (2, 3), state)


@pytest.mark.parametrize("name", FRAMES)
def test_padded_with_every_length(name: str) -> None:
    for length in range(30):
        _judge(FRAMES[name] + bytes(length), (3, 2), SocketState.NONE)


@given(
    frame=st.sampled_from(list(FRAMES.values())),
    edits=EDITS,
    cut=st.integers(0, 130),
    chain=CHAINS,
    state=st.sampled_from(SocketState),
)
def test_edited_anywhere(
    frame: bytes,
    edits: list[tuple[int, bytes]],
    cut: int,
    chain: tuple[int, ...],
    state: SocketState,
) -> None:
    for at, value in edits:
        frame = frame[:at] + value + frame[at + len(value) :]
    _judge(frame[:cut], chain, state)


@given(frame=st.binary(max_size=200), chain=CHAINS)
def test_noise(frame: bytes, chain: tuple[int, ...]) -> None:
    _judge(frame, chain, SocketState.NONE)


@given(ttl=st.integers(0, 255), chain=CHAINS)
def test_the_inner_packet_is_untouched_to_the_byte(ttl: int, chain: tuple[int, ...]) -> None:
    packet = QUERY[:8] + bytes([ttl]) + QUERY[9:]
    result = forward(ethernet(packet), config(2, chain))
    assert result.service in {DNS, None}
    assert result.frame is None or result.frame.endswith(packet)
