"""The wall clock of a controller is stepped: nothing is forgotten too early, and nothing breaks.

Before, a step of an hour in either direction made all hops old at once: they were dropped, and 19
to 22 of 60 flows broke.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.polling import wait_until
from tests.netns.field.controllers import Controllers
from tests.unit.controlplane.conftest import Fleet

HOUR = 3600
FORGET_SECONDS = 25
SETTINGS = f"""
tick_seconds = 0.1
silent_after_seconds = 2
silent_wait_seconds = 4
slow_start_seconds = 0
[[server]]
name = "s1"
dip = "10.1.0.1"
[[server]]
name = "s2"
dip = "10.1.0.2"
[[server]]
name = "s3"
dip = "10.1.0.3"
[[pool]]
name = "web"
buckets = 256
balance = "equal"
drain_time_seconds = {FORGET_SECONDS}
[[service]]
name = "echo"
vip = "192.0.2.1"
protocol = "udp"
port = 7000
pool = "web"
"""
SIGNS = pytest.mark.parametrize("step", [HOUR, -HOUR, 48 * HOUR], ids=["+1h", "-1h", "+2d"])


@pytest.fixture
def controllers(tmp_path: Path) -> Iterator[Controllers]:
    made = Controllers(tmp_path, SETTINGS)
    yield made
    made.kill()


@pytest.fixture
def fleet(controllers: Controllers) -> Iterator[Fleet]:
    """Three servers, of which s2 has just been drained: it is a later hop of its old buckets."""
    made = Fleet(controllers.store)
    controllers.start()
    for name in ("s1", "s2", "s3"):
        made.agent(name)
    wait_until(lambda: len(made.current()) == 3, "a table", 30)
    made.store.request_drain("s2", requested=True)
    wait_until(lambda: "s2" not in made.current(), "s2 is drained", 30)
    yield made
    made.close()


@SIGNS
def test_a_step_of_a_running_controllers_clock_forgets_nothing(
    controllers: Controllers, fleet: Fleet, step: int
) -> None:
    controllers.clock.step(step)
    controllers.rounds(20)
    assert "s2" in fleet.named(), "its flows are there still"
    assert controllers.metric("hops_forgotten_total") == 0


@SIGNS
def test_a_successor_with_another_clock_forgets_nothing(
    controllers: Controllers, fleet: Fleet, step: int
) -> None:
    controllers.kill()
    controllers.clock.step(step)
    controllers.start()
    controllers.rounds(20)
    assert "s2" in fleet.named()
    assert controllers.metric("hops_forgotten_total") == 0
    assert set(fleet.states().values()) == {"active", "draining"}, "nobody died, nobody rejoined"


def test_hops_are_forgotten_after_their_time_which_is_logged_and_counted(
    controllers: Controllers, fleet: Fleet
) -> None:
    controllers.clock.step(-HOUR)
    took = wait_until(lambda: "s2" not in fleet.named(), "s2 is forgotten", 2 * FORGET_SECONDS)
    assert took > FORGET_SECONDS / 2
    wait_until(lambda: controllers.metric("hops_forgotten_total") > 80, "counted")
    assert sum(line["forgotten"] for line in controllers.lines("table published")) > 80


def test_an_old_store_with_wall_clock_times_is_taken_over_safely(
    controllers: Controllers, fleet: Fleet
) -> None:
    """Tables of earlier versions have Unix seconds, here of a clock that was an hour ahead."""
    controllers.kill()
    for path in (controllers.store / "documents/controller").iterdir():
        path.unlink()
    controllers.clock.step(-HOUR)
    controllers.start()
    controllers.rounds(20)
    assert "s2" in fleet.named()
