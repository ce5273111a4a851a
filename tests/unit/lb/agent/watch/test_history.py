"""When a thing may be put back, and how long the server waits before it gets traffic again."""

from __future__ import annotations

from lb.agent.watch.history import (
    BURST,
    CALM_SECONDS,
    PACE_SECONDS,
    SETTLE_SECONDS,
    WINDOW_SECONDS,
    History,
)


def test_the_first_repairs_are_at_once_and_the_rate_is_bounded() -> None:
    history, done, now = History(), 0, 100.0
    while now < 100.0 + WINDOW_SECONDS:
        if history.may_repair(now):
            history.note_repair(now, done=True)
            done += 1
            assert history.is_contested(now) == (done >= BURST)
        now += 0.1
    assert BURST < done <= BURST + WINDOW_SECONDS / PACE_SECONDS


def test_a_repair_that_fails_is_tried_again_later_and_is_not_a_repair() -> None:
    history = History()
    history.note_repair(10.0, done=False)
    assert not history.may_repair(10.0 + PACE_SECONDS / 2)
    assert history.may_repair(10.0 + PACE_SECONDS)
    assert history.repairs(10.0) == 0


def test_old_repairs_are_forgotten() -> None:
    history = History()
    for number in range(BURST):
        history.note_repair(float(number), done=True)
    assert history.is_contested(float(BURST))
    assert not history.is_contested(WINDOW_SECONDS + 0.5)


def test_what_is_put_back_within_a_look_is_never_broken() -> None:
    history = History()
    for number in range(100):
        history.observe(float(number), fine=True)
    assert not history.broken


def test_what_is_missing_is_broken_at_once_and_until_it_has_stayed_for_a_while() -> None:
    history = History()
    history.observe(10.0, fine=False)
    assert history.broken
    history.observe(11.0, fine=True)
    history.observe(11.0 + SETTLE_SECONDS - 0.1, fine=True)
    assert history.broken
    history.observe(12.5, fine=False)
    history.observe(13.0, fine=True)
    history.observe(13.0 + SETTLE_SECONDS - 0.1, fine=True)
    assert history.broken, "it has to stay"
    history.observe(13.0 + SETTLE_SECONDS, fine=True)
    assert not history.broken


def test_it_has_to_stay_longer_if_somebody_works_against_it() -> None:
    history = History()
    for _ in range(BURST):
        history.note_repair(10.0, done=True)
    history.observe(10.0, fine=False)
    history.observe(11.0, fine=True)
    history.observe(11.0 + CALM_SECONDS - 0.1, fine=True)
    assert history.broken
    history.observe(11.0 + CALM_SECONDS, fine=True)
    assert not history.broken


def test_patience_is_for_what_comes_back_by_itself() -> None:
    history = History(patience_seconds=1.0)
    history.observe(10.0, fine=False)
    history.observe(10.9, fine=True)
    history.observe(11.0, fine=False)
    history.observe(11.9, fine=False)
    assert not history.broken
    history.observe(12.0, fine=False)
    assert history.broken
