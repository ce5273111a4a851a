"""Who reaches whom: what one lying agent can do, splits, and the moment when one is discovered."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.decide.groups import Groups, counted_losses, find_groups, reported_losses
from controlplane.domain.objects import PathReport, Report


def servers(count: int) -> dict[str, int]:
    return {f"s{n:03}": n for n in range(1, count + 1)}


def named(*numbers: int) -> frozenset[str]:
    return frozenset(f"s{n:03}" for n in numbers)


def claims(**lost: Collection[int]) -> dict[str, frozenset[str]]:
    """``s1=[3]``: server 1 reports losing server 3."""
    return {f"s{int(name[1:]):03}": named(*numbers) for name, numbers in lost.items()}


def outside(groups: Groups) -> frozenset[str]:
    return frozenset(groups.outside)


def judged(count: int, reported: Mapping[str, frozenset[str]]) -> Groups:
    return find_groups(servers(count), (), reported)


def test_all_is_well() -> None:
    assert judged(4, {}) == Groups()


def test_a_server_that_two_others_lose_is_outside() -> None:
    """Packets to it are dropped; it notices nothing, because its own arrive."""
    found = judged(4, claims(s1=[3], s2=[3], s4=[3]))
    assert found.outside == {"s003": named(1, 2, 4)}
    assert not found.split
    assert outside(judged(4, claims(s1=[3], s2=[3]))) == named(3)
    assert outside(judged(3, claims(s1=[3], s2=[3]))) == named(3)


def test_what_one_server_says_of_one_other_counts_only_if_that_one_agrees() -> None:
    assert judged(4, claims(s1=[3])) == Groups()
    assert judged(10, claims(s1=[3, 4, 5, 6])) == Groups()
    assert judged(4, claims(s1=[3], s3=[1])).losses == {"s001": named(3), "s003": named(1)}


@pytest.mark.parametrize("count", [3, 4, 5, 10, 100])
def test_who_claims_to_lose_everybody_takes_only_itself_out(count: int) -> None:
    for liar in (1, count):
        everybody = [n for n in range(1, count + 1) if n != liar]
        found = judged(count, claims(**{f"s{liar}": everybody}))
        assert outside(found) == named(liar)


@given(st.integers(3, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(1, n)))))
def test_whatever_one_liar_claims_no_other_server_leaves(case: tuple[int, set[int]]) -> None:
    count, lost = case
    found = judged(count, claims(s1=[n for n in lost if n != 1]))
    assert outside(found) <= named(1)


def test_a_liar_that_answers_nobody_can_take_one_other_with_it_and_no_more() -> None:
    """By dropping the probes of others, it makes them report losses that are true."""
    found = judged(6, claims(s1=[2, 3], s2=[1], s3=[1]))
    assert outside(found) == named(1)
    found = judged(6, claims(s1=[2], s2=[1]))
    assert len(found.outside) == 1


def test_two_servers_that_lose_each_other_stay() -> None:
    found = judged(2, claims(s1=[2], s2=[1]))
    assert found.split
    assert found.outside == {}
    assert judged(2, claims(s1=[2])).split


def every_pair(*sides: Collection[int]) -> dict[str, frozenset[str]]:
    """What servers report when these sides do not reach each other."""
    return {
        f"s{n:03}": named(*(m for other in sides if other is not side for m in other))
        for side in sides
        for n in side
    }


@pytest.mark.parametrize(
    ("sides", "out"),
    [
        (((1, 2), (3, 4)), ()),
        (((1, 2, 3), (4, 5)), (4, 5)),
        (((4, 5, 1), (2, 3)), (2, 3)),
        (((1, 2), (3, 4), (5,)), ()),
        (((1, 2, 3, 4), (5, 6), (7,)), (5, 6, 7)),
        ((range(1, 151), range(151, 301)), ()),
        ((range(1, 201), range(201, 301)), range(201, 301)),
    ],
)
def test_only_more_than_half_is_a_majority(
    sides: Collection[Collection[int]], out: Collection[int]
) -> None:
    count = sum(map(len, sides))
    found = judged(count, every_pair(*sides))
    assert outside(found) == named(*out)
    assert found.split == (not out)


def test_of_two_that_only_lose_each_other_the_newer_one_goes_always_the_same() -> None:
    reported = claims(s1=[3], s3=[1])
    for order in itertools.permutations(servers(4).items()):
        assert outside(find_groups(dict(order), (), reported)) == named(3)
    assert outside(find_groups(servers(4), (), reported, already_out=named(1))) == named(1)


def test_a_chain_of_losses_costs_as_few_as_possible() -> None:
    """2 reaches neither 1 nor 3; without 2 all reach each other."""
    found = judged(5, claims(s1=[2], s2=[1, 3], s3=[2]))
    assert outside(found) == named(2)


def test_while_an_even_split_is_discovered_nobody_is_surely_outside() -> None:
    """Servers find out peer by peer; the first losses look like many single ones."""
    sides = range(1, 151), range(151, 301)
    complete = every_pair(*sides)
    rng = random.Random(1)
    for known in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        partly = {
            name: frozenset(peer for peer in sorted(lost) if rng.random() < known)
            for name, lost in complete.items()
        }
        found = judged(300, partly)
        assert outside(found) == found.unsure, known


def test_one_of_300_is_outside_as_soon_as_a_few_report_it() -> None:
    found = judged(300, claims(s7=[42], s20=[42], s99=[42], s250=[42]))
    assert (outside(found), found.unsure) == (named(42), frozenset())


def test_two_racks_of_five_that_do_not_reach_each_other_need_all_the_evidence() -> None:
    """The group is a majority, but most of it reaches both."""
    one, other = range(1, 5), range(5, 9)
    found = judged(20, every_pair(one, other))
    assert outside(found) == found.unsure == named(*other)


def test_newcomers_are_outside_but_make_no_majority() -> None:
    reported = every_pair((1, 2), (3, 4, 5))
    found = find_groups({"s001": 1, "s002": 2}, named(3, 4, 5), reported)
    assert not found.outside.keys() & named(1, 2)
    found = find_groups(servers(3), ["s009"], claims(s1=[9], s2=[9]))
    assert outside(found) == named(9)


@pytest.mark.parametrize("count", [3, 5, 6])
def test_newcomers_are_no_witnesses_against_servers_in_use(count: int) -> None:
    """One agent can report under the name of a server that has no machine yet, too."""
    two = {"new": named(1), "newer": named(1)}
    for reported in ({**claims(s2=[1]), "new": named(1)}, two, {**claims(s2=[1]), **two}):
        found = find_groups(servers(count), ("new", "newer"), reported)
        assert outside(found) == reported.keys() & {"new", "newer"}
        assert not found.split


def test_a_loser_of_most_in_use_is_outside_however_many_newcomers_there_are() -> None:
    newcomers = [f"new{n}" for n in range(10)]
    found = find_groups(servers(5), newcomers, claims(s5=[1, 2, 3]))
    assert found.outside == {"s005": named(1, 2, 3)}


def test_newcomers_that_lose_each_other_are_not_both_kept_out() -> None:
    reported = {"new": frozenset({"newer"}), "newer": frozenset({"new"})}
    assert outside(find_groups(servers(4), ("new", "newer"), reported)) == {"newer"}


def test_losses_of_servers_that_are_not_asked_about_do_not_count() -> None:
    reported = claims(s1=[8, 9], s2=[8, 9], s8=[1, 2, 3, 4])
    assert judged(4, reported) == Groups()


def report(name: str, *lost: str, probes: bool = True) -> Report:
    paths = PathReport(3, lost) if probes else None
    return Report(name, "boot", 1, 0.0, paths=paths)


def test_only_fresh_reports_are_read() -> None:
    reports = {"a": report("a", "b"), "b": report("b", "a"), "c": report("c", "a")}
    assert reported_losses(reports, ["a", "b"]) == {"a": {"b"}, "b": {"a"}}
    assert reported_losses(reports, ["d"]) == {}


def test_who_does_not_probe_yet_is_not_judged() -> None:
    """An earlier version does not answer probes either: a rollback must not take it out."""
    reports = {"a": report("a", "b"), "c": report("c", "b"), "b": report("b", probes=False)}
    assert reported_losses(reports, reports) == {"a": frozenset(), "c": frozenset()}


def test_nobody_loses_itself_and_names_from_nowhere_are_ignored() -> None:
    reports = {"a": report("a", "a", "zz")}
    assert counted_losses(reported_losses(reports, reports), ["a", "b"]) == {}


PAIRS = st.sets(st.tuples(st.integers(1, 7), st.integers(1, 7)), max_size=30)


@given(PAIRS)
def test_those_inside_reach_each_other_and_are_the_majority(pairs: set[tuple[int, int]]) -> None:
    reported: dict[str, frozenset[str]] = {}
    for a, b in pairs:
        if a != b:
            name = f"s{a:03}"
            reported[name] = reported.get(name, frozenset()) | named(b)
    found = judged(7, reported)
    if found.split:
        assert found.outside == {}
        return
    inside = servers(7).keys() - found.outside.keys()
    assert 2 * len(inside) > 7
    assert not any(found.losses.get(name, frozenset()) & inside for name in inside)
    for name in found.outside:
        assert found.losses[name] & inside, "nobody leaves without need"
