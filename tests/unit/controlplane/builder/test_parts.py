"""The builder's parts, each on its own."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.builder.chains import compact, put_first, put_second
from controlplane.builder.choose import match, mix, rank_within
from controlplane.builder.targets import fill, whole


def u16(*values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.array(values, dtype=np.uint16)


def test_compact_closes_holes_and_keeps_the_order() -> None:
    before = u16([0, 0, 3, 4], [1, 0, 2, 0], [0, 0, 0, 9], [1, 2, 3, 4], [0, 0, 0, 0])
    after = [[3, 4, 0, 0], [1, 2, 0, 0], [9, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
    assert compact(before).tolist() == after


def test_put_first_rotates_or_pushes_the_last_out() -> None:
    before = u16([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0])
    after = [[3, 1, 2, 4], [9, 1, 2, 3], [9, 1, 2, 0], [9, 0, 0, 0]]
    assert put_first(before, u16(3, 9, 9, 9)).tolist() == after
    assert put_first(u16([1]), u16(2)).tolist() == [[2]]


def test_put_second_keeps_the_current_server() -> None:
    before = u16([1, 2, 3], [1, 0, 0])
    assert put_second(before, u16(9, 9)).tolist() == [[1, 9, 2], [1, 9, 0]]
    assert put_second(u16([1, 2]), u16(9)).tolist() == [[1, 9]]


def test_rank_within_counts_each_group() -> None:
    assert rank_within(u16(5, 3, 5, 5, 3)).tolist() == [0, 0, 1, 2, 1]
    assert rank_within(u16()).tolist() == []


def test_mix_is_even_everywhere() -> None:
    amounts = np.zeros(10, dtype=np.int64)
    amounts[[2, 5]] = [3, 6]
    mixed = mix(amounts).tolist()
    assert sorted(mixed) == [2] * 3 + [5] * 6
    assert [mixed[i : i + 3].count(2) for i in (0, 3, 6)] == [1, 1, 1]


def test_match_is_maximal_and_keeps_both_limits() -> None:
    givers, takers = u16(1, 1, 1, 2, 2), u16(3, 3, 4, 3, 4)
    give, take = np.array([0, 2, 2, 0, 0]), np.array([0, 0, 0, 1, 5])
    assert sorted(match(givers, takers, give, take).tolist()) == [0, 2, 4]
    assert give.tolist() == [0, 0, 1, 0, 0]
    assert take.tolist() == [0, 0, 0, 0, 3]


@pytest.mark.parametrize(
    ("amount", "weights", "capacity", "parts"),
    [
        (12, [1, 2, 3], [99, 99, 99], [2, 4, 6]),
        (12, [1, 2, 3], [99, 99, 3], [3, 6, 3]),
        (12, [1, 2, 3], [1, 99, 3], [1, 8, 3]),
        (12, [1, 2, 3], [1, 2, 3], [1, 2, 3]),
        (12, [0, 1, 1], [99, 4, np.inf], [0, 4, 8]),
        (12, [0, 0, 0], [9, 9, 9], [0, 0, 0]),
        (12, [1, 1, 1], [0, 0, 99], [0, 0, 12]),
    ],
)
def test_fill_gives_what_has_no_room_to_the_others(
    amount: float, weights: list[float], capacity: list[float], parts: list[float]
) -> None:
    found = fill(amount, np.array(weights, dtype=np.float64), np.array(capacity, dtype=np.float64))
    assert found.tolist() == pytest.approx(parts)


def test_whole_prefers_the_holder_then_the_remainder_then_the_lower_index() -> None:
    quota = np.array([0, 1.5, 1.5, 1.7, 1.3])
    assert whole(6, quota, np.array([0, 0, 0, 0, 0])).tolist() == [0, 2, 1, 2, 1]
    assert whole(6, quota, np.array([0, 1, 1, 1, 2])).tolist() == [0, 1, 1, 2, 2]
    assert whole(3, np.array([0.0, 1, 2]), np.array([9, 9, 9])).tolist() == [0, 1, 2]
