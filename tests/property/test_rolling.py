"""Two rolling restarts in a row, within one drain time, with default settings."""

from __future__ import annotations

import pytest

from controlplane.domain.bounds import DEFAULT_DEPTH
from tests.property.rolling import POOL, restarted_twice

SHALLOW = 2


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_two_rolling_restarts_force_out_no_hop_with_default_settings(
    seed: int, *, down: bool
) -> None:
    pool = restarted_twice(4, DEFAULT_DEPTH, seed=seed, buckets=512, down=down)
    assert pool.forced == 0
    assert pool.waited == 0, "no active server is without buckets"
    assert pool.traffic.seconds < POOL.drain_time_seconds, "no hop became old meanwhile"
    # A packet that nobody owns visits all of a chain, others are kept on the way.
    tcp, udp, ack = (pool.traffic.mean(kind) for kind in ("tcp", "udp", "ack"))
    assert 1 < min(tcp, udp) <= max(tcp, udp) < ack < DEFAULT_DEPTH


def test_the_same_restarts_at_depth_two_force_out_hops() -> None:
    """The judge of the test above sees what it is meant to see."""
    assert restarted_twice(4, SHALLOW, buckets=512).forced > 100
