"""A step of the wall clock is reported once, in either direction."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from controlplane.controller.wall_clock import WallClock


class Clocks:
    wall = 1_000_000.0
    steady = 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.mark.parametrize("step", [3600.0, -3600.0, 6.0])
def test_a_step_is_logged_once_with_its_size(step: float) -> None:
    clocks = Clocks()
    clock = WallClock(lambda: clocks.wall, lambda: clocks.steady)
    with capture_logs() as lines:
        assert clock.look() == 0.0
        clocks.pass_by(600.0)
        assert clock.look() == 0.0, "time that passes is no step"
        clocks.wall += step
        assert clock.look() == pytest.approx(step)
        clocks.pass_by(1.0)
        assert clock.look() == 0.0
    (line,) = lines
    assert line["log_level"] == "warning"
    assert line["event"] == "the clock of this machine was stepped"
    assert line["seconds"] == pytest.approx(step)


def test_a_clock_that_is_slewed_is_not_stepped() -> None:
    clocks = Clocks()
    clock = WallClock(lambda: clocks.wall, lambda: clocks.steady)
    with capture_logs() as lines:
        for _ in range(100):
            clocks.pass_by(1.0)
            clocks.wall += 0.5
            assert clock.look() == 0.0
    assert lines == []
