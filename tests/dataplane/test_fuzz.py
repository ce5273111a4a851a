"""Thousands of random frames through the programs and the model: verdict, counter, bytes, service.

LB_FUZZ_SEED repeats a run, LB_FUZZ_PACKETS makes it longer.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from tests.dataplane.fuzzing import random_config, random_skb_frame, random_vip_frame
from tests.dataplane.rig import Rig
from tests.model import (
    FORWARDER_COUNTERS,
    KERNEL_COUNTERS,
    REDIRECTOR_COUNTERS,
    SameSocket,
    forward,
    redirect,
)
from tests.model.result import Result

PACKETS = int(os.environ.get("LB_FUZZ_PACKETS", "12000"))
PACKETS_A_CONFIG = 400
NEEDS_SOCKETS = {"accept_socket", "accept_syncookie", "accept_udp_socket"}
"""Reached with real sockets in test_sockets.py; here there are none."""
CHAINED = {"tx_forward_chain", "pass_to_self", "pass_on"}
"""The frame that comes out carries a hop list; its length is in byte 49."""


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("LB_FUZZ_SEED", "0")) or random.SystemRandom().getrandbits(32)


def report(name: str, seed: int, reach: Counter[str], hops: Counter[int], wanted: set[str]) -> None:
    """Print the reach and hold it against what must be reached."""
    total = sum(reach.values())
    print(f"\n{name}: {total} packets, seed {seed} (LB_FUZZ_SEED)")
    for counter, count in sorted(reach.items()):
        print(f"  {counter:24} {count}")
    print(f"  hop lists of so many: {dict(sorted(hops.items()))}")
    assert hops.keys() == {1, 2, 3}, "chains of 2, 3 and 4, and no others"
    missing = wanted - reach.keys()
    assert not missing, f"never reached: {sorted(missing)}"
    assert total == PACKETS


def difference(frame: bytes, got: Result, wanted: Result, seed: int) -> str:
    """What to look at when they differ."""
    return f"seed {seed}\nframe  {frame.hex()}\nC      {got}\nmodel  {wanted}"


@pytest.mark.slow
def test_forwarder_agrees_with_the_model(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    reach: Counter[str] = Counter()
    hops: Counter[int] = Counter()
    before = rig.counts().verdicts
    for number in range(PACKETS):
        if number % PACKETS_A_CONFIG == 0:
            rig.configure(random_config(rng))
        frame = random_vip_frame(rng)
        got, wanted = rig.forward(frame), forward(frame, rig.config)
        assert got == wanted, difference(frame, got, wanted, seed)
        reach[got.counter] += 1
        if got.counter in CHAINED and got.frame is not None:
            hops[got.frame[49]] += 1
    after = rig.counts().verdicts
    assert sum(after.values()) - sum(before.values()) == PACKETS
    report("forwarder", seed, reach, hops, set(FORWARDER_COUNTERS - KERNEL_COUNTERS))


@pytest.mark.slow
def test_redirector_agrees_with_the_model(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    reach: Counter[str] = Counter()
    hops: Counter[int] = Counter()
    before = rig.counts().verdicts
    for number in range(PACKETS):
        if number % PACKETS_A_CONFIG == 0:
            rig.configure(random_config(rng))
        frame = random_skb_frame(rng)
        got, wanted = rig.redirect(frame), redirect(frame, rig.config, SameSocket())
        assert got == wanted, difference(frame, got, wanted, seed)
        reach[got.counter] += 1
        if got.counter in CHAINED and got.frame is not None:
            hops[got.frame[49]] += 1
    after = rig.counts().verdicts
    assert sum(after.values()) - sum(before.values()) == PACKETS
    report(
        "redirector", seed, reach, hops, set(REDIRECTOR_COUNTERS - KERNEL_COUNTERS) - NEEDS_SOCKETS
    )
