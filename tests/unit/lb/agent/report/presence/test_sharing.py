"""Dumps in reports: two in a row, seldom if they are large, at once for a new mark."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.documents.presence import Dump, Mark
from lb.agent.facts import PresenceFacts
from lb.agent.report.presence.sharing import BYTES_PER_SECOND, REPEATS, Sharing

REPORT_SECONDS = 0.25


def presence(number: int, size: int, mark: Mark | None = None) -> PresenceFacts:
    return PresenceFacts(Dump(number, mark, 1, None, {}), {"number": number}, size, 0.0)


def shared(
    dumps: Iterable[tuple[int, Mark | None]], size: int, reports_a_dump: int = 4
) -> list[int]:
    """The dumps that reports had, in order, each report's."""
    sharing, now, found = Sharing(), 100.0, []
    for number, mark in dumps:
        for _ in range(reports_a_dump):
            body = sharing.choose(presence(number, size, mark), now)
            if body is not None:
                found.append(int(body["number"]))
            now += REPORT_SECONDS
    return found


def test_without_a_dump_there_is_nothing_to_share() -> None:
    assert Sharing().choose(None, 0.0) is None


def test_small_dumps_are_all_shared_each_in_two_reports() -> None:
    assert shared([(n, None) for n in range(1, 5)], size=300) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_large_dumps_are_shared_in_pairs_with_pauses() -> None:
    size = 11_000
    found = shared([(n, None) for n in range(1, 41)], size)
    numbers = sorted(set(found))
    assert all(found.count(number) == REPEATS for number in numbers)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert all(second == first + 1 for first, second in pairs)
    assert 3 <= len(pairs) <= 5
    assert REPEATS * size * len(numbers) / 40.0 < 1.3 * BYTES_PER_SECOND


def test_a_new_mark_does_not_wait() -> None:
    marks = [None, None, None, None, Mark(1, 1), Mark(1, 1), Mark(1, 1), Mark(1, 1)]
    found = shared(list(enumerate(marks, start=1)), size=60_000)
    assert sorted(set(found)) == [1, 2, 5, 6]


def test_a_mark_between_two_dumps_begins_a_pair_of_its_own() -> None:
    marks = [None, Mark(1, 1), Mark(1, 1), Mark(1, 1)]
    assert sorted(set(shared(list(enumerate(marks, start=1)), size=60_000))) == [1, 2, 3]


def test_a_dump_that_no_report_saw_breaks_the_pair() -> None:
    """Dumps 1, 3 and 4: the pair is 3 and 4."""
    found = shared([(1, None), (3, None), (4, None), (5, None)], size=300)
    assert sorted(set(found)) == [1, 3, 4, 5]
    large = shared([(1, None), *((n, None) for n in range(3, 60))], size=11_000)
    numbers = sorted(set(large))[1:]
    assert all(b == a + 1 for a, b in zip(numbers[::2], numbers[1::2], strict=False))
