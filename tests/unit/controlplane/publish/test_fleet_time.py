"""Fleet time: never back, never ahead of the time that has passed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.controller_state import MAX_FLEET_SECONDS
from controlplane.publish.fleet_time import FleetTime

moments = st.lists(st.floats(0, 1e6), min_size=2, max_size=20).map(sorted)


@given(st.floats(0, 2e9), moments)
def test_it_passes_as_the_monotonic_clock_does(stored: float, times: list[float]) -> None:
    time = FleetTime(stored, times[0])
    assert time.at(times[0]) >= stored
    for earlier, later in itertools.pairwise(times):
        passed = time.at(later) - time.at(earlier)
        assert abs(passed - (later - earlier)) < 1e-3


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e5), st.floats(0, 1e4)), max_size=6))
def test_successors_never_go_back_and_never_ahead(lives: list[tuple[float, float, float]]) -> None:
    """Each leads for a while, on a machine whose monotonic clock begins anywhere."""
    stored, passed = 1000.0, 0.0
    for led, began, nobody_led in lives:
        time = FleetTime(stored, began)
        assert time.at(began) >= stored
        stored, passed = time.at(began + led), passed + led + nobody_led
        assert stored <= 1000.0 + passed + 1e-3


def test_it_includes_what_another_controller_published_but_nothing_impossible() -> None:
    time = FleetTime(100.0, 0.0)
    time.reach(90.0, 1.0)
    assert time.at(1.0) == 101.0
    time.reach(500.0, 2.0)
    assert (time.at(2.0), time.at(4.0)) == (500.0, 502.0)
    time.reach(MAX_FLEET_SECONDS + 1, 5.0)
    assert time.at(5.0) == 503.0


def test_a_clock_that_does_not_run_forwards_stops_it() -> None:
    assert FleetTime(100.0, 50.0).at(10.0) == 100.0


def test_zero_stands_for_never() -> None:
    assert FleetTime(0.0, 0.0).at(0.0) >= 1
