"""Which orphans reports name: few at a time, each for a moment, none for ever."""

from __future__ import annotations

from controlplane.domain.objects import FlowName
from lb.agent.report.orphans.outbox import MOST_NAMED, MOST_WAITING, NAMED_SECONDS, Outbox


def names(count: int) -> list[FlowName]:
    return [FlowName("web", number) for number in range(count)]


def test_each_is_named_for_a_moment() -> None:
    box = Outbox()
    assert box.choose(5.0) == ()
    box.add(names(2))
    assert box.choose(5.0) == box.choose(5.0 + NAMED_SECONDS - 0.1) == tuple(names(2))
    assert box.choose(5.0 + NAMED_SECONDS) == ()


def test_a_report_names_only_so_many_and_the_next_ones_the_others() -> None:
    box, seen, now = Outbox(), list[FlowName](), 0.0
    box.add(names(3 * MOST_NAMED))
    for _ in range(3):
        named = box.choose(now)
        assert len(named) == MOST_NAMED
        seen += named
        now += NAMED_SECONDS
    assert seen == names(3 * MOST_NAMED)


def test_what_waits_is_bounded() -> None:
    box, seen, now = Outbox(), set[FlowName](), 0.0
    box.add(names(10 * MOST_WAITING))
    while named := box.choose(now):
        seen |= {*named}
        now += NAMED_SECONDS
    assert len(seen) == MOST_WAITING
