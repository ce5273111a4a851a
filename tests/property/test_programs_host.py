"""The programs as ordinary C beside the model: no root, and frames that no kernel runs.

BPF_PROG_TEST_RUN takes no frame under 14 bytes and none that does not fit a page. There are no
sockets here.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.fuzz import forwarder_frames, packets
from tests.fuzz.host import FORWARDER, REDIRECTOR, Host
from tests.fuzz.packets import TCP, UDP, ethernet
from tests.fuzz.redirector_frames import Tunnels
from tests.fuzz.scene import FILLERS, Scene, many_services, random_config
from tests.fuzz.traffic import ACK, Traffic
from tests.model import Config, Memory, Result, SameSocket, forward, redirect

HUGE = 65535
MOST_WORDS = 1 << 17


@pytest.fixture
def rng() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


class Both:
    """The host's programs beside the model, with one memory for all packets."""

    def __init__(self, host: Host, config: Config, fillers: tuple[int, ...] = ()) -> None:
        host.configure(config, fillers)
        host.forget()
        self._host, self._config = host, config
        self._memory = Memory(answers_left=64)
        self.reach: Counter[str] = Counter()

    def forward(self, frame: bytes) -> None:
        wanted = forward(frame, self._config, self._memory)
        self._compare(frame, self._host.run(FORWARDER, frame), wanted)

    def redirect(self, frame: bytes, linear: int = MOST_WORDS) -> None:
        wanted = redirect(frame, self._config, SameSocket(), self._memory)
        self._compare(frame, self._host.run(REDIRECTOR, frame, linear=linear), wanted)

    def _compare(self, frame: bytes, got: Result, wanted: Result) -> None:
        assert got == wanted, f"{len(frame)} bytes: {frame[:200].hex()}"
        self.reach[got.counter] += 1


@pytest.mark.parametrize("fillers", FILLERS)
def test_frames_of_all_kinds(host: Host, rng: random.Random, fillers: tuple[int, ...]) -> None:
    config = random_config(rng)
    both = Both(host, config, fillers)
    traffic = Traffic.of(rng, Scene(config))
    for frame in forwarder_frames.frames(traffic, 1200):
        both.forward(frame)
    for frame in Tunnels(traffic, ()).frames(1200):
        # a driver may have left any part of a packet outside of the first piece
        both.redirect(frame, linear=rng.choice((14, 34, 42, 60, 100, MOST_WORDS)))
    assert {"tx_forward", "tx_forward_chain", "accept_last_hop", "pass_on"} <= set(both.reach)
    assert {"pass_other_host", "accept_path_probe"} <= set(both.reach)


def test_every_length_up_to_a_whole_header(host: Host, rng: random.Random) -> None:
    config = random_config(rng)
    both = Both(host, config)
    traffic = Traffic.of(rng, Scene(config))
    for frame in forwarder_frames.frames(traffic, 40):
        for end in range(min(len(frame), 80)):
            both.forward(frame[:end])
    for frame in Tunnels(traffic, ()).frames(40):
        for end in range(min(len(frame), 120)):
            both.redirect(frame[:end])
    assert {"pass_not_ip", "pass_malformed", "ok_not_gue", "drop_gue_malformed"} <= set(both.reach)


def huge_packet(traffic: Traffic, size: int) -> bytes:
    """A packet of this length, by its length field; IPv6 may have 40 more than IPv4."""
    rng = traffic.rng
    flow = traffic.scene.flow(rng, hit=1.0)
    head = {4: 20, 6: 40}[flow.version] + {TCP: 20, UDP: 8}[flow.protocol]
    data = bytes((size if flow.version == 6 else min(size, HUGE)) - head)
    segment = packets.udp(flow, data, length=8)
    if flow.protocol == TCP:
        segment = packets.tcp(flow, ACK, data)
    return packets.ip(flow, segment)


def test_frames_up_to_the_largest_packet(host: Host, rng: random.Random) -> None:
    config = replace(random_config(rng), mtu=HUGE)
    both = Both(host, config)
    traffic = Traffic.of(rng, Scene(config))
    for _ in range(300):
        size = rng.choice((3500, 9000, rng.randrange(3500, HUGE), HUGE + 40 - rng.randrange(100)))
        packet = huge_packet(traffic, size)
        both.forward(ethernet(packet))
        wrapped = packets.gue(
            min(config.known).packed, config.self_dip.packed,
            packet[: HUGE - 36], port=config.gue_port,
        )  # fmt: skip
        both.redirect(ethernet(wrapped))
    assert {"pass_to_self", "tx_too_big", "tx_forward"} <= set(both.reach), both.reach


def test_thousands_of_services(host: Host, rng: random.Random) -> None:
    config = random_config(rng)
    config = replace(config, services=tuple(many_services(rng, 3600)))
    both = Both(host, config)
    traffic = Traffic.of(rng, Scene(config))
    for _ in range(250):
        both.forward(ethernet(traffic.plain()))
    assert both.reach["tx_forward"]
    assert both.reach["pass_no_service"]
