"""What a controller goes on with after another one, by the stored state."""

from __future__ import annotations

import itertools

import numpy as np

from controlplane.documents.controller import decode_controller
from controlplane.domain.controller_state import CONTROLLER, ControllerState, DrainRequest
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

POOL = {"name": "web", "buckets": 1024, "cap": 0}
"""Without a cap, which would give the first of two servers at most three quarters."""


def stored(fleet: Fleet) -> ControllerState:
    version = fleet.store.latest(CONTROLLER)
    assert version
    return decode_controller(version.data)


def test_shares_that_followed_load_are_those_of_the_successor(fleet: Fleet) -> None:
    config = fleet.up(2, pool=[{"name": "web", "buckets": 1024}])
    fleet.agents["s1"].load, fleet.agents["s2"].load = 0.9, 0.2
    wait_until(lambda: fleet.current()["s1"] < 440, "the busy one gets less", 20)
    for agent in fleet.agents.values():
        agent.load = None
    fleet.go_on(1.0)
    wait_until(fleet.calm, "settled")
    fleet.stop_control()
    before = fleet.current()
    assert stored(fleet).shares["web"]["s1"] < 0.9
    fleet.control(config)
    fleet.go_on(1.5)
    assert abs(fleet.current()["s1"] - before["s1"]) <= 20


def test_a_slow_start_goes_on_where_it_was(fleet: Fleet) -> None:
    config = fleet.config(2, slow_start_seconds=4, pool=[POOL])
    fleet.agent("s1")
    fleet.control(config)
    wait_until(lambda: fleet.states().get("s1") == "active", "s1")
    fleet.agent("s2")
    wait_until(lambda: fleet.current().get("s2", 0) > 150, "s2 has a third")
    fleet.stop_control()
    assert 0.1 < stored(fleet).slow_start["s2"] < 0.9
    fleet.control(config)
    wait_until(lambda: fleet.current().get("s2") == 512, "a full share", 20)
    wait_until(lambda: fleet.states()["s2"] == "active", "active")
    counts = [int(np.count_nonzero(t.chains[:, 0] == 2)) for t in fleet.agents["s1"].history]
    assert all(later >= earlier - 20 for earlier, later in itertools.pairwise(counts))
    wait_until(lambda: stored(fleet).slow_start == {}, "it is over")


def test_requests_are_stored_with_who_when_and_why(fleet: Fleet) -> None:
    fleet.up(2)
    request = DrainRequest("ann@ctl", 5.0, "a new kernel")
    fleet.store.request_drain("s2", requested=True, request=request)
    wait_until(lambda: stored(fleet).requests == {"s2": request}, "stored")
    fleet.store.request_drain("s2", requested=False)
    wait_until(lambda: stored(fleet).requests == {}, "gone")
