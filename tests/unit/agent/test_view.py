"""What the data plane and the checks of a machine are told of the documents."""

from __future__ import annotations

from controlplane.objects import DEFAULT_DEPTH, Pool
from lb.agent.view import deepest


def test_room_is_needed_for_the_deepest_pool() -> None:
    assert deepest((Pool("plain", depth=1),)) == 1
    assert deepest((Pool("plain", depth=1), Pool("web", depth=4), Pool("work", depth=3))) == 4


def test_before_any_pool_is_known_the_usual_depth_is_assumed() -> None:
    assert deepest(()) == DEFAULT_DEPTH
