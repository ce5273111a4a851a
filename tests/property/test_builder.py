"""The builder's seven promises (docs/adr), each over invented lives of a pool."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings

from controlplane.builder import Occupancy, build
from controlplane.domain.bounds import MAX_SERVERS
from tests.property.builder_world import (
    BUCKETS,
    DRAIN,
    Chain,
    S,
    Step,
    World,
    cap_of,
    chains_of,
    counts_of,
    histories,
    live,
    new_worlds,
    quotas,
    same,
    worlds,
)

lives = settings(max_examples=60, deadline=None)


def alive(step: Step, chain: Chain) -> Chain:
    return tuple(hop for hop in chain if step.known(hop))


def prepared(step: Step, before: Chain, after: Chain) -> bool:
    """Whether a newcomer was put behind the current server."""
    return (
        len(after) > 1
        and bool(before)
        and after[0] == before[0]
        and after[1] not in alive(step, before)
    )


def pairs(step: Step) -> list[tuple[Chain, Chain]]:
    return list(zip(chains_of(step.old), chains_of(step.new), strict=True))


def age(step: Step, bucket: int) -> float:
    """How long ago the bucket moved; a time in the future is now."""
    assert step.old is not None
    return max(step.request.now - float(step.old.moved_at[bucket]), 0.0)


def recent(step: Step, bucket: int) -> bool:
    if step.old is None or step.old.moved_at[bucket] == 0:
        return False
    return age(step, bucket) < DRAIN


def forgotten(step: Step, bucket: int) -> bool:
    """Whether a bucket's later hops are so old that they may be dropped."""
    after = step.request.forget_after_seconds
    if after is None or step.old is None or not step.request.settled:
        return False
    return age(step, bucket) >= after


def settle(world: World, passing_seconds: float) -> list[Step]:
    """Let nothing more happen and build until nothing changes."""
    steps: list[Step] = []
    for _ in range(12):
        step = world.build(settled=True)
        if step is None:
            return []
        if step.result.table is None:
            return steps
        steps.append(step)
        world.now += passing_seconds
    raise AssertionError("never comes to rest")


def bring_somebody_back(world: World) -> None:
    if not any(s in (S.ACTIVE, S.JOINING) for s in world.states.values()):
        world.states[1] = S.ACTIVE


# Promise 1: each server tends to its share, within one bucket.


@given(worlds, histories)
@lives
def test_targets_are_shares_in_whole_buckets(world: World, history: Any) -> None:
    for step in live(world, history):
        exact = quotas(step.request)
        assert set(step.result.targets) == set(exact)
        assert sum(step.result.targets.values()) == BUCKETS
        for index, target in step.result.targets.items():
            assert abs(target - exact[index]) < 1 + 1e-6


@given(new_worlds)
@lives
def test_the_first_table_is_by_largest_remainder(world: World) -> None:
    step = world.build(settled=True)
    assert step is not None
    exact = quotas(step.request)
    assert counts_of(step.new) == Counter({i: n for i, n in step.result.targets.items() if n})
    remainders = {i: q - q.__floor__() for i, q in exact.items()}
    up = [remainders[i] for i, n in step.result.targets.items() if n > exact[i]]
    down = [remainders[i] for i, n in step.result.targets.items() if n < exact[i]]
    if up and down:
        assert min(up) >= max(down) - 1e-6
    assert step.new is not None
    assert not step.new.moved_at.any()


@given(worlds, histories)
@lives
def test_once_nothing_is_pending_or_held_back_everybody_has_the_target(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        if step.result.pending + step.result.held_back == 0:
            targets = {i: n for i, n in step.result.targets.items() if n}
            assert counts_of(step.new) == targets


@given(worlds, histories)
@lives
def test_rest_is_reached_in_three_builds_once_drain_times_have_passed(
    world: World, history: Any
) -> None:
    list(live(world, history))
    bring_somebody_back(world)
    world.forget = None
    world.now = abs(world.now) + 10 * DRAIN
    assert len(settle(world, DRAIN)) <= 3
    step = world.build(settled=True)
    assert step is not None
    assert step.result.table is None
    assert step.result.pending == step.result.held_back == 0


# Promise 2: the fewest moves.


@given(worlds, histories)
@lives
def test_nobody_gives_what_is_not_too_much_nor_gets_what_is_not_missing(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        before, after = counts_of(step.old), counts_of(step.new)
        for index in before:
            if step.known(index):
                assert after[index] >= min(before[index], step.result.targets.get(index, 0))
        for index in after:
            assert after[index] <= max(before[index], step.result.targets.get(index, 0))
        moved = sum(b[:1] != a[:1] for b, a in pairs(step))
        assert moved == step.result.moved


@given(worlds, histories)
@lives
def test_the_way_to_rest_moves_no_bucket_twice(world: World, history: Any) -> None:
    list(live(world, history))
    bring_somebody_back(world)
    before = counts_of(world.table)
    steps = settle(world, DRAIN)
    assert steps or world.build(settled=True) is not None
    after = counts_of(world.table)
    moves = sum(step.result.moved for step in steps)
    assert moves == sum(max(0, n - after[i]) for i, n in before.items()) + (
        BUCKETS if not before else 0
    )


# Promise 3: a move takes two generations.


@given(worlds, histories)
@lives
def test_a_new_current_server_was_in_the_chain_before(world: World, history: Any) -> None:
    for step in live(world, history):
        if step.old is None:
            continue
        for before, after in pairs(step):
            if before[0] == after[0]:
                continue
            if step.known(before[0]):
                assert step.request.settled
                assert after[0] in before or world.depth == 1
            assert step.eligible(after[0])


@given(worlds, histories)
@lives
def test_until_all_have_the_last_table_only_the_dead_are_taken_out(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        if step.request.settled or step.old is None:
            continue
        for before, after in pairs(step):
            if alive(step, before) == before:
                assert after == before
            elif step.known(before[0]):
                assert after == alive(step, before)
        assert step.result.prepared == step.result.forced == 0


# Promise 4: chains repeat no server; a bucket that moves back only rotates.


@given(worlds, histories)
@lives
def test_chains_are_whole_and_change_in_known_ways_only(world: World, history: Any) -> None:
    for step in live(world, history):
        for bucket, (before, after) in enumerate(pairs(step)):
            assert 1 <= len(after) <= world.depth
            assert len(set(after)) == len(after)
            rest = alive(step, before)
            if not before or after == rest:
                continue
            if after[0] in rest:
                moved = (after[0], *(hop for hop in rest if hop != after[0]))
                kept = rest[: 1 if forgotten(step, bucket) else len(rest)]
                newcomer = (rest[0], *after[1:2], *kept[1:])[: world.depth]
                possible = [moved, kept[:1]]
                if prepared(step, before, after):
                    possible.append(newcomer)
                    assert step.eligible(after[1])
                assert after in possible
                if after == kept[:1]:
                    assert forgotten(step, bucket)
            elif not step.known(before[0]):
                assert after == (after[0], *rest)[: world.depth]
            else:
                assert world.depth == 1


# Promise 5: what falls off is empty, dead or oldest; only a drain or a cap forces.


@given(worlds, histories)
@settings(max_examples=200, deadline=None)
def test_hops_within_their_drain_time_are_pushed_out_only_by_force(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        forced: Counter[int] = Counter()
        for bucket, (before, after) in enumerate(pairs(step)):
            lost = set(alive(step, before)) - set(after)
            if world.depth > 1 and lost and recent(step, bucket) and not forgotten(step, bucket):
                assert prepared(step, before, after)
                forced[before[0]] += 1
        assert sum(forced.values()) == step.result.forced
        for giver, buckets in forced.items():
            going = sum(a[0] == giver and prepared(step, b, a) for b, a in pairs(step))
            left = counts_of(step.new)[giver] - going
            assert left + buckets > cap_of(step.request, giver)
            assert left >= step.result.targets.get(giver, 0)


@given(worlds, histories)
@lives
def test_what_falls_off_is_the_oldest(world: World, history: Any) -> None:
    for step in live(world, history):
        if step.old is None or step.result.prepared == 0:
            continue
        pushed_out: dict[int, list[int]] = {}
        spared: dict[int, list[int]] = {}
        for bucket, (before, after) in enumerate(pairs(step)):
            if before[0] != after[0] or not step.known(before[0]):
                continue
            full = len(alive(step, before)) == world.depth and not forgotten(step, bucket)
            # 0: nothing falls off, or a newcomer that never came to serve.
            since = min(int(step.old.moved_at[bucket]), int(step.request.now)) if full else 0
            where = pushed_out if prepared(step, before, after) else spared
            where.setdefault(before[0], []).append(since)
        for giver, ages in pushed_out.items():
            assert max(ages) <= min(spared.get(giver, [1 << 40]))


@given(worlds, histories)
@lives
def test_receivers_first_get_buckets_that_name_them(world: World, history: Any) -> None:
    for step in live(world, history):
        if not step.request.settled or step.old is None:
            continue
        held, targets = counts_of(step.new), step.result.targets
        for before, after in pairs(step):
            if before[0] != after[0] or held[after[0]] <= targets.get(after[0], 0):
                continue
            for hop in alive(step, before)[1:]:
                assert held[hop] >= targets.get(hop, 0)


@given(worlds, histories)
@lives
def test_the_bereaved_go_to_a_server_that_knows_their_connections(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        held, targets = counts_of(step.new), step.result.targets
        for before, after in pairs(step):
            rest = alive(step, before)
            if before and not step.known(before[0]) and after[0] not in rest:
                assert all(held[hop] >= targets.get(hop, 0) for hop in rest)


# Promise 6: the down are gone, the draining fade, the old are forgotten.


@given(worlds, histories)
@lives
def test_the_down_are_in_no_chain_and_the_draining_get_nothing(world: World, history: Any) -> None:
    for step in live(world, history):
        held_before, held_after = counts_of(step.old), counts_of(step.new)
        for before, after in pairs(step):
            assert all(step.known(hop) for hop in after)
            assert all(step.eligible(hop) for hop in set(after) - set(before))
        for index in held_after:
            if not step.eligible(index):
                assert held_after[index] <= held_before[index]
                if step.request.settled and step.result.pending == 0:
                    assert held_after[index] == 0


@given(worlds, histories)
@lives
def test_old_hops_are_forgotten_when_that_is_asked_for_and_never_else(
    world: World, history: Any
) -> None:
    for step in live(world, history):
        for bucket, (before, after) in enumerate(pairs(step)):
            stays = before[:1] == after[:1] and not prepared(step, before, after)
            if forgotten(step, bucket) and stays:
                assert len(after) == 1
            elif stays:
                assert after == alive(step, before)


@given(worlds, histories)
@lives
def test_a_prepared_newcomer_that_is_still_wanted_is_not_forgotten(
    world: World, history: Any
) -> None:
    list(live(world, history))
    bring_somebody_back(world)
    world.forget = 0.0
    for step in settle(world, 1.0):
        was_prepared = [i for i, (b, a) in enumerate(pairs(step)) if prepared(step, b, a)]
        following = build(step.new, replace(step.request, generation=99))
        if world.depth > 1 and following.table is not None:
            swapped = chains_of(following.table)
            for bucket in was_prepared:
                assert swapped[bucket][0] == chains_of(step.new)[bucket][1]


# Promise 7: no server gets more than the cap.


@given(worlds, histories)
@lives
def test_nobody_gets_more_than_the_cap(world: World, history: Any) -> None:
    for step in live(world, history):
        caps = {i: cap_of(step.request, i) for i in step.result.targets}
        beyond = sum(max(0.0, n - caps[i]) for i, n in step.result.targets.items())
        assert beyond == step.result.unplaced
        assert step.result.unplaced == max(0, BUCKETS - sum(caps.values()))


# And besides.


@given(worlds, histories)
@lives
def test_the_same_question_has_the_same_answer(world: World, history: Any) -> None:
    for step in live(world, history):
        kept = copy.deepcopy(step.old)
        backwards = replace(
            step.request,
            states=dict(reversed(list(step.request.states.items()))),
            shares=dict(reversed(list(step.request.shares.items()))),
        )
        again = build(step.old, backwards)
        assert same(again.table, step.result.table)
        for name in ("moved", "prepared", "forced", "pending", "held_back", "targets"):
            assert getattr(again, name) == getattr(step.result, name)
        assert same(kept, step.old)


@given(worlds, histories)
@lives
def test_no_change_is_no_table(world: World, history: Any) -> None:
    for step in live(world, history):
        if step.result.table is None:
            continue
        assert step.result.table.generation == step.request.generation
        if step.old is not None:
            possible = np.minimum(step.old.moved_at, int(step.request.now))
            unchanged = np.array_equal(step.result.table.chains, step.old.chains)
            assert not (unchanged and np.array_equal(possible, step.old.moved_at))
            same_time = step.result.table.moved_at == possible
            same_current = step.result.table.chains[:, 0] == step.old.chains[:, 0]
            assert (same_time | ~same_current).all()


# What is not known changes nothing.


@given(worlds, histories)
@lives
def test_without_any_report_of_connections_tables_are_the_same(world: World, history: Any) -> None:
    for step in live(world, history):
        if step.old is None:
            continue
        nothing = np.zeros(step.old.chains.shape, dtype=np.bool_)
        unknown = Occupancy(
            nothing, ~nothing, nothing, np.zeros(MAX_SERVERS + 1), np.full(MAX_SERVERS + 1, np.inf)
        )
        request = replace(step.request, occupancy=unknown, forget_occupied=False, drop_now=False)
        result = build(step.old, request)
        assert same(result.table, step.result.table)
        assert (result.forced, result.forgotten) == (step.result.forced, step.result.forgotten)
