"""Frames that BPF_PROG_TEST_RUN refuses: under 14 bytes, and huge. The programs as ordinary C.

The state is that of the real data plane; sockets there are none.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.dataplane.rig import Rig
from tests.fuzz import forwarder_frames, packets
from tests.fuzz.host import FORWARDER, REDIRECTOR, Host
from tests.fuzz.packets import TCP, UDP, ethernet
from tests.fuzz.redirector_frames import Tunnels
from tests.fuzz.scene import Scene, random_config
from tests.fuzz.traffic import ACK, Traffic
from tests.model import Config, Memory, Result, SameSocket, forward, redirect

HUGE = 65535
FRAMES = 300


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("host"))


class Both:
    """The host's programs beside the model, with one memory for all packets."""

    def __init__(self, host: Host, rig: Rig, config: Config) -> None:
        rig.configure(config)
        host.take_over(rig)
        host.forget()
        self._host, self._config = host, config
        self._memory = Memory(answers_left=64)
        self.reach: Counter[str] = Counter()

    def forward(self, frame: bytes) -> None:
        wanted = replace(forward(frame, self._config, self._memory), service=None)
        self._compare(frame, self._host.run(FORWARDER, frame), wanted)

    def redirect(self, frame: bytes) -> None:
        wanted = redirect(frame, self._config, SameSocket(), self._memory)
        self._compare(frame, self._host.run(REDIRECTOR, frame), wanted)

    def _compare(self, frame: bytes, got: Result, wanted: Result) -> None:
        assert got == wanted, f"{len(frame)} bytes: {frame[:200].hex()}"
        self.reach[got.counter] += 1


@pytest.fixture
def seed() -> int:
    value = random.SystemRandom().getrandbits(32)
    print(f"seed {value}")
    return value


def test_every_length_up_to_a_whole_header(host: Host, rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    both = Both(host, rig, config)
    traffic = Traffic.of(rng, Scene(config))
    for frame in forwarder_frames.frames(traffic, 40):
        for end in range(min(len(frame), 80)):
            both.forward(frame[:end])
    for frame in Tunnels(traffic, ()).frames(40):
        for end in range(min(len(frame), 120)):
            both.redirect(frame[:end])
    assert {"pass_not_ip", "pass_malformed", "ok_not_gue", "drop_gue_malformed"} <= set(both.reach)


def huge_packet(traffic: Traffic, size: int) -> bytes:
    """A packet of so many bytes, as its length field says; IPv6 may have 40 more."""
    rng = traffic.rng
    flow = traffic.scene.flow(rng, hit=1.0)
    head = {4: 20, 6: 40}[flow.version] + {TCP: 20, UDP: 8}[flow.protocol]
    data = bytes((size if flow.version == 6 else min(size, HUGE)) - head)
    whole = (
        packets.tcp(flow, ACK, data) if flow.protocol == TCP else packets.udp(flow, data, length=8)
    )
    return packets.ip(flow, whole)


def test_frames_up_to_the_largest_packet(host: Host, rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    config = replace(random_config(rng), mtu=HUGE)
    both = Both(host, rig, config)
    traffic = Traffic.of(rng, Scene(config))
    for _ in range(FRAMES):
        size = rng.choice((3500, 9000, rng.randrange(3500, HUGE), HUGE + 40 - rng.randrange(100)))
        packet = huge_packet(traffic, size)
        both.forward(ethernet(packet))
        wrapped = packets.gue(
            min(config.known).packed, config.self_dip.packed,
            packet[: HUGE - 36], port=config.gue_port,
        )  # fmt: skip
        both.redirect(ethernet(wrapped))
    # to this server itself no link is too small, but IPv4's length field is
    assert {"pass_to_self", "tx_too_big", "tx_forward"} <= set(both.reach), both.reach
