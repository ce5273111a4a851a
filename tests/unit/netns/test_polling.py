"""The one helper that waits for a condition."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netns.polling import NotInTimeError, wait_until


def countdown(polls: int) -> Iterator[bool]:
    yield from [False] * polls
    while True:
        yield True


def test_a_condition_that_is_true_is_not_waited_for() -> None:
    values = countdown(0)
    assert wait_until(lambda: next(values), "nothing", 0.0) < 1


def test_a_condition_that_becomes_true_is_asked_until_then() -> None:
    values = countdown(3)
    assert 0.03 <= wait_until(lambda: next(values), "the fourth value", 5.0) < 5


def test_a_condition_that_stays_false_is_an_error_with_what_was_waited_for() -> None:
    line = r"waited 0\.02 s in vain for: a first table$"
    with pytest.raises(NotInTimeError, match=line):
        wait_until(lambda: False, "a first table", 0.02)


def test_the_error_has_the_last_value() -> None:
    with pytest.raises(NotInTimeError, match=r"two servers \(last value: \[\]\)$"):
        wait_until(list, "two servers", 0.02)


def test_an_error_of_the_condition_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, "infinity", 5.0)
