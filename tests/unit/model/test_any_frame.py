"""Whatever arrives, the model has a verdict with a documented name, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import (
    FORWARDER_COUNTERS,
    KERNEL_COUNTERS,
    REDIRECTOR_COUNTERS,
    Config,
    Memory,
    SameSocket,
    SocketState,
    forward,
    redirect,
)
from tests.model.frames import (
    C_TAG,
    S_TAG,
    authentication,
    destination_options,
    ethernet,
    fragments_of,
    framed,
    gue_packet,
    icmp_error,
    icmp_packet,
    routing,
    tcp_packet,
    udp_packet,
)
from tests.packets.world import CLIENT, CLIENT6, DNS, VIP, VIP6, config, dip

BROADCAST = b"\xff" * 6
HOPS = [dip(3), dip(4), dip(1)]
ACK = tcp_packet(CLIENT, 40000, VIP, 80, flags=0x10, payload=b"data")
QUERY = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
HEADERS = [routing(24), authentication(12), destination_options()]
ACK6 = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=0x10, headers=HEADERS)
QUERY6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=b"question")
ERROR = icmp_error(CLIENT, tcp_packet(VIP, 80, CLIENT, 40000)[:28])
ERROR6 = icmp_error(CLIENT6, tcp_packet(VIP6, 443, CLIENT6, 40000, headers=HEADERS))
FIRST, LATER = fragments_of(QUERY, 8)
FIRST6, LATER6 = fragments_of(QUERY6, 8)
FRAMES = {
    "TCP": ethernet(ACK),
    "UDP": ethernet(QUERY),
    "echo": ethernet(icmp_packet(CLIENT, VIP)),
    "TCP over IPv6": framed(ACK6, tags=[S_TAG, C_TAG]),
    "UDP over IPv6": framed(QUERY6, tags=[C_TAG]),
    "error": framed(ERROR),
    "error over IPv6": framed(ERROR6),
    "first fragment": framed(FIRST),
    "later fragment": framed(LATER),
    "first fragment of IPv6": framed(FIRST6),
    "later fragment of IPv6": framed(LATER6),
    "GUE with IPv6": ethernet(gue_packet(dip(1), dip(2), ACK6, HOPS)),
    "GUE with an error": ethernet(gue_packet(dip(1), dip(2), ERROR, HOPS)),
    "GUE with an error over IPv6": ethernet(gue_packet(dip(1), dip(2), ERROR6, HOPS)),
    "GUE with a first fragment": ethernet(gue_packet(dip(1), dip(2), FIRST, HOPS)),
    "GUE with a later fragment of IPv6": ethernet(gue_packet(dip(1), dip(2), LATER6, HOPS)),
    "GUE": ethernet(gue_packet(dip(1), dip(2), ACK, HOPS)),
    "GUE at the end": ethernet(gue_packet(dip(1), dip(2), QUERY, HOPS, next_hop=3)),
    "GUE with a path probe": ethernet(gue_packet(dip(1), dip(2), icmp_packet(dip(1), dip(2)))),
    "GUE with an echo": ethernet(gue_packet(dip(1), dip(2), icmp_packet(CLIENT, VIP), HOPS)),
}
CHAINS = st.lists(st.integers(0, 5), max_size=4).map(tuple)
EDITS = st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)), max_size=4)


def _judge(
    frame: bytes, chain: tuple[int, ...], state: SocketState, memory: Memory | None = None
) -> None:
    """What holds for every frame."""
    here = config(2, chain, mtu=100)
    first = forward(frame, here, memory)
    assert first.counter in FORWARDER_COUNTERS - KERNEL_COUNTERS
    assert first.verdict == first.counter.split("_")[0]
    assert (first.frame is None) == (first.verdict == "drop")
    if first.verdict == "pass" and first.counter != "pass_to_self":
        assert first.frame == frame
    second = redirect(frame, here, SameSocket(state), memory)
    assert second.counter in REDIRECTOR_COUNTERS - KERNEL_COUNTERS
    assert (second.frame is None) == (second.verdict == "drop")
    assert second.service is None
    if second.verdict == "redirect":
        assert second.frame is not None
        assert len(second.frame) == len(frame)
    _judge_flooded(BROADCAST[: len(frame)] + frame[6:], here, memory)


def _judge_flooded(frame: bytes, here: Config, memory: Memory | None) -> None:
    """What holds for every frame that is for another host."""
    by = forward(frame, here, memory)
    assert by.counter in {"pass_not_ip", "pass_malformed", "pass_no_service", "pass_other_host"}
    assert (by.verdict, by.frame, by.service) == ("pass", frame, None)


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
    cut=st.integers(0, 220),
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


@given(
    frames=st.lists(st.sampled_from(list(FRAMES.values())), max_size=8),
    chain=CHAINS,
    state=st.sampled_from(SocketState),
)
def test_one_after_another(frames: list[bytes], chain: tuple[int, ...], state: SocketState) -> None:
    memory = Memory(answers_left=2)
    for frame in frames:
        _judge(frame, chain, state, memory)


@given(frame=st.binary(max_size=200), chain=CHAINS)
def test_noise(frame: bytes, chain: tuple[int, ...]) -> None:
    _judge(frame, chain, SocketState.NONE)


@given(ttl=st.integers(0, 255), chain=CHAINS)
def test_the_inner_packet_is_untouched_to_the_byte(ttl: int, chain: tuple[int, ...]) -> None:
    packet = QUERY[:8] + bytes([ttl]) + QUERY[9:]
    result = forward(ethernet(packet), config(2, chain))
    assert result.service in {DNS, None}
    assert result.frame is None or result.frame.endswith(packet)
