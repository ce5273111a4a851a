"""One pass over the watched things: put back, counted, reported, or the server is not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.domain.errors import BrigadeError
from lb.agent.facts import SharedFacts
from lb.agent.watch.history import BURST, PACE_SECONDS, SETTLE_SECONDS
from lb.agent.watch.registry import (
    UNKNOWN_LOOKS,
    Drift,
    InterfaceReplacedError,
    Registry,
    Thing,
)


class World:
    """A thing that can be lost, and that may come back by a repair."""

    def __init__(self, *, repairable: bool = True, essential: bool = True) -> None:
        self.lost = False
        self.error: Exception | None = None
        self.look_error: Exception | None = None
        self.does_nothing = False
        self.tried = 0
        self.repairable = repairable
        repair: Callable[[], None] = self.repair
        thing = Thing("vips", self.look_at_it, repair, essential, rivals="a robot")
        self.facts = SharedFacts(0.0)
        self.registry = Registry([thing], self.facts)
        self.now = 100.0

    def look_at_it(self) -> Drift | None:
        if self.look_error is not None:
            raise self.look_error
        return Drift("not on lo: x", "add x", self.repairable) if self.lost else None

    def repair(self) -> None:
        self.tried += 1
        if self.error is not None:
            raise self.error
        self.lost = self.does_nothing

    def look(self, after: float = 0.1) -> tuple[str, ...]:
        self.now += after
        return self.registry.look(self.now)

    @property
    def trouble(self) -> str | None:
        return self.facts.current.troubles.get("watch vips")


def events(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]


def test_what_is_well_is_not_mentioned_and_counts_from_zero() -> None:
    world = World()
    with capture_logs() as logs:
        assert world.look() == ()
    assert (logs, world.trouble, world.facts.current.repairs) == ([], None, {"vips": 0})


def test_what_is_lost_is_put_back_counted_and_logged_once() -> None:
    world = World()
    world.lost = True
    with capture_logs() as logs:
        assert world.look() == (), "it is there again before anybody has to be withdrawn"
        assert world.look() == ()
    assert (world.tried, world.trouble, world.facts.current.repairs) == (1, None, {"vips": 1})
    assert [(line["event"], line["detail"]) for line in logs] == [("put back", "not on lo: x")]


@pytest.mark.parametrize("how", ["refused", "without effect", "not repairable"])
def test_what_cannot_be_put_back_withdraws_the_server_and_has_a_remedy(how: str) -> None:
    world = World(repairable=how != "not repairable")
    world.lost = True
    world.error = BrigadeError("no permission") if how == "refused" else None
    world.does_nothing = how == "without effect"
    with capture_logs() as logs:
        assert world.look() == ("vips",)
    assert "missing" in events(logs)
    assert world.trouble is not None
    assert "not on lo: x" in world.trouble
    assert "; add x; this server is withdrawn until then" in world.trouble
    assert ("no permission" in world.trouble) == (how == "refused")
    assert world.facts.current.repairs == {"vips": 0}
    assert world.look() == ("vips",)
    assert world.tried == (0 if how == "not repairable" else 1), "not again at once"
    world.error, world.does_nothing = None, False
    assert world.look(PACE_SECONDS) == ("vips",)
    if how == "not repairable":
        world.lost = False
        world.look()
    assert "in place again" in str(world.trouble)
    with capture_logs() as logs:
        assert world.look(SETTLE_SECONDS) == ()
    assert events(logs) == ["in place again"]
    assert world.trouble is None


def test_what_is_not_essential_is_reported_and_does_not_withdraw() -> None:
    world = World(repairable=False, essential=False)
    world.lost = True
    assert world.look() == ()
    assert world.trouble == "vips: not on lo: x; add x"


def test_a_fight_is_bounded_and_named() -> None:
    world = World()
    for _ in range(100):
        world.lost = True
        missing = world.look()
    assert world.tried <= BURST + 10 / PACE_SECONDS
    assert missing == ("vips",)
    assert "changed" in str(world.trouble)
    assert "by a robot" in str(world.trouble)


def test_a_slow_fight_is_named_but_the_server_stays() -> None:
    """Each time it is there again at once: to withdraw all servers would be worse."""
    world = World()
    for _ in range(BURST):
        world.lost = True
        assert world.look(5.0) == ()
    assert "changed 5 times" in str(world.trouble)


def test_a_look_that_fails_once_changes_nothing_and_often_counts_as_missing() -> None:
    world = World()
    world.look_error = OSError(105, "No buffer space available")
    for _ in range(UNKNOWN_LOOKS - 1):
        assert world.look() == ()
    world.look_error = None
    assert world.look() == ()
    world.look_error = OSError(105, "No buffer space available")
    results = [world.look() for _ in range(UNKNOWN_LOOKS)]
    assert results[-2:] == [(), ("vips",)]
    assert "cannot look at it: [Errno 105] No buffer space" in str(world.trouble)
    assert world.tried == 0


def test_another_interface_of_our_name_ends_the_pass() -> None:
    world = World()
    world.look_error = InterfaceReplacedError("made anew")
    with pytest.raises(InterfaceReplacedError):
        world.look()
