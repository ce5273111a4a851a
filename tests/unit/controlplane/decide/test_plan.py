"""Plans with numbers: what moves, what is passed on, what is lost, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from controlplane.builder import BuildRequest
from controlplane.decide.plan.ahead import Cause
from controlplane.decide.plan.known import Known, KnownPool, KnownServer
from controlplane.decide.plan.objects import Kind, LostPlan, Plan, PoolPlan
from controlplane.decide.plan.plan import make_plan
from controlplane.documents.presence import PoolPresence
from controlplane.domain.objects import Pool, ServerState, Table

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
NOW, DRAIN = 10_000, 900.0
BUCKETS = 256


def pool(
    *chains: tuple[int, ...],
    depth: int = 2,
    age: int = 100,
    states: Mapping[int, ServerState] | None = None,
    busy: Mapping[int, tuple[int, int]] | None = None,
    forget: float | None = None,
) -> KnownPool:
    """A pool whose buckets have these chains in turn.

    ``busy``: server -> connections, and the first buckets that they are in.
    """
    rows = np.zeros((BUCKETS, depth), dtype=np.uint16)
    for number, chain in enumerate(chains):
        rows[number :: len(chains), : len(chain)] = chain
    table = Table("web", 5, 1, rows, np.full(BUCKETS, NOW - age, dtype=np.uint32))
    request = BuildRequest(
        pool=Pool("web", BUCKETS, depth, key_id="k"),
        cluster_generation=1,
        generation=6,
        shares={},
        states=states or {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: ACTIVE},
        settled=True,
        now=NOW,
        drain_time_seconds=DRAIN,
        forget_after_seconds=forget,
    )
    found = {
        index: PoolPresence("k", BUCKETS, count, np.arange(BUCKETS) < first)
        for index, (count, first) in (busy or {}).items()
    }
    return KnownPool(table, request, found)


def fleet(found: KnownPool, **servers: KnownServer) -> Known:
    """Four servers, all in this pool."""
    plain = {
        f"s{i}": KnownServer(f"s{i}", i, found.request.states.get(i, ACTIVE), frozenset({"web"}))
        for i in range(1, 5)
    }
    return Known({**plain, **servers}, {"web": found}, 30.0, 1.0)


def web(plan: Plan, stage: int = 0) -> PoolPlan:
    (found,) = plan.stages[stage].pools
    return found


QUARTERS = ((1,), (2,), (3,), (4,))


def test_a_drain_passes_on_what_the_server_has_where_it_is_current() -> None:
    """s1 has 64 buckets, and 100 connections in the first 128 buckets: 32 of the 128 are its."""
    plan = make_plan(fleet(pool(*QUARTERS, busy={1: (128, 128), 2: (128, 256)})), Kind.DRAIN, "s1")
    found = web(plan)
    assert (found.buckets, found.anyway, found.forced, found.held_back) == (64, 0, 0, 0)
    assert (found.chained_buckets, found.chained, found.chained_part) == (64, 32, 0.125)
    assert (found.lost, found.nobody, found.tables) == ((), False, 2)
    assert sum(found.has.values()) == BUCKETS
    assert max(found.has.values()) == 86
    assert "s1" not in found.has
    assert plan.stages[0].generations == 3
    assert plan.stages[0].bound == "rounds"
    assert plan.lost == 0


def test_without_dumps_connections_are_unknown_and_assumed() -> None:
    plan = make_plan(fleet(pool(*QUARTERS, busy={2: (9, 256)})), Kind.DRAIN, "s1")
    found = web(plan)
    assert (found.chained_buckets, found.chained, found.chained_part) == (64, None, 0.25)
    assert plan.knowledge.presence == 1
    assert plan.knowledge.assumed == ("s1", "s3", "s4")
    assert plan.lost == 0


def test_hops_that_full_chains_push_out_are_counted_in_connections() -> None:
    """s4 is the later hop of s1's buckets: half of them have its connections, 2 each."""
    states = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: DRAINING}
    chains = ((1, 4), (2,), (3,), (2,))
    found = web(
        make_plan(fleet(pool(*chains, states=states, busy={4: (64, 128)})), Kind.DRAIN, "s1")
    )
    assert (found.forced, found.full_seconds) == (64, 800.0)
    assert found.lost == (LostPlan("s4", Cause.FORCED, 64, 16),)
    unknown = web(make_plan(fleet(pool(*chains, states=states)), Kind.DRAIN, "s1"))
    assert unknown.lost == (LostPlan("s4", Cause.FORCED, 64, None),)
    later = pool(*chains, states=states, age=901, busy={4: (64, 128)})
    old = web(make_plan(fleet(later), Kind.DRAIN, "s1"))
    assert old.forced == 0
    assert old.lost == (LostPlan("s4", Cause.FORGOTTEN, 64, 16),)
    empty = pool(*chains, states=states, busy={4: (0, 0)})
    assert web(make_plan(fleet(empty), Kind.DRAIN, "s1")).lost == ()


def test_chains_of_four_have_space() -> None:
    found = web(make_plan(fleet(pool((1, 4), (2,), (3,), (2,), depth=4)), Kind.DRAIN, "s1"))
    assert (found.forced, found.lost) == (0, ())


def test_without_later_hops_every_bucket_that_moves_breaks() -> None:
    found = web(make_plan(fleet(pool(*QUARTERS, depth=1, busy={1: (256, 256)})), Kind.DRAIN, "s1"))
    assert found.lost == (LostPlan("s1", Cause.UNCHAINED, 64, 64),)
    assert found.chained_buckets == 0


def test_the_last_server_keeps_its_buckets_and_breaks_with_its_machine() -> None:
    states = {1: ACTIVE, 2: DRAINING, 3: DOWN, 4: DOWN}
    last = fleet(pool((1,), states=states, busy={1: (7, 256)}))
    drained = web(make_plan(last, Kind.DRAIN, "s1"))
    assert (drained.nobody, drained.buckets, drained.lost) == (True, 0, ())
    gone = web(make_plan(last, Kind.DOWN, "s1"))
    assert gone.nobody
    assert gone.lost == (LostPlan("s1", Cause.GONE, BUCKETS, 7),)


def test_a_server_that_goes_takes_all_its_connections_with_it() -> None:
    """Also those that it has as a later hop."""
    found = web(
        make_plan(fleet(pool((1,), (2, 1), (3,), (4,), busy={1: (256, 256)})), Kind.DOWN, "s1")
    )
    assert found.lost == (LostPlan("s1", Cause.GONE, 128, 128),)
    assert (found.buckets, found.tables) == (64, 1)


def test_a_reboot_is_three_steps_and_loses_what_is_left_when_it_goes() -> None:
    known = fleet(pool(*QUARTERS, depth=4, busy={1: (256, 256)}))
    plan = make_plan(known, Kind.REBOOT, "s1")
    assert [stage.what for stage in plan.stages] == ["drained", "away", "back"]
    drained, away, back = (web(plan, stage) for stage in range(3))
    assert (drained.buckets, drained.chained, drained.lost) == (64, 64, ())
    assert away.lost == (LostPlan("s1", Cause.GONE, 64, 64),)
    assert away.buckets == 0
    assert (back.buckets, back.has["s1"], back.lost) == (64, 64, ())
    assert (plan.stages[2].seconds, plan.stages[2].bound) == (30.0, "slow start")
    assert plan.lost == 64
    then = {server.server: server.part_then["web"] for server in plan.servers}
    assert then["s1"] == 0, "its part is that of the step with the fewest servers"


def test_a_newcomer_waits_for_chains_to_have_space() -> None:
    """Chains are full of hops within their drain time: nothing may be pushed out for a newcomer."""
    states = {1: DRAINING, 2: ACTIVE, 3: ACTIVE, 4: ACTIVE}
    chains = ((2, 3), (3, 4), (4, 2))
    plan = make_plan(fleet(pool(*chains, states=states, age=100)), Kind.UNDRAIN, "s1")
    found = web(plan)
    assert (found.buckets, found.held_back, found.lost) == (0, 64, ())
    assert (plan.stages[0].seconds, plan.stages[0].bound) == (800.0, "drain time")


def test_what_would_move_anyway_is_counted_apart() -> None:
    """s2 is prepared to take buckets of s1 already."""
    found = pool((1, 2), (1,), states={1: ACTIVE, 2: ACTIVE, 3: ACTIVE})
    assert web(make_plan(fleet(found), Kind.DRAIN, "s3")).anyway > 0
    assert web(make_plan(fleet(found), Kind.DRAIN, "s3")).buckets > 0


@pytest.mark.parametrize(("load", "over"), [(0.7, ()), (0.8, ("its capacity: load 1.07",))])
def test_a_server_over_its_capacity_is_named(load: float, over: tuple[str, ...]) -> None:
    server = KnownServer("s2", 2, ACTIVE, frozenset({"web"}), load=load)
    plan = make_plan(fleet(pool(*QUARTERS), s2=server), Kind.DRAIN, "s1")
    (found,) = (one for one in plan.servers if one.server == "s2")
    assert found.over == over
    assert found.load_then == pytest.approx(load * found.part_then["web"] * 4)


def test_a_server_over_its_limit_of_connections_is_named() -> None:
    server = KnownServer("s2", 2, ACTIVE, frozenset({"web"}), connections=90, limit=100)
    plan = make_plan(fleet(pool(*QUARTERS), s2=server), Kind.DRAIN, "s1")
    (found,) = (one for one in plan.servers if one.server == "s2")
    assert found.over == ("max_connections 100: about 121",)


def test_the_age_of_what_is_known_is_that_of_the_oldest() -> None:
    known = fleet(pool(*QUARTERS, busy={1: (1, 1), 2: (1, 1), 3: (1, 1), 4: (1, 1)}))
    aged = {
        name: replace(server, dump_age_seconds=float(server.index))
        for name, server in known.servers.items()
    }
    known = replace(known, servers=aged)
    found = make_plan(known, Kind.DRAIN, "s1").knowledge
    assert (found.presence, found.assumed, found.presence_seconds) == (4, (), 4.0)
    aged["s3"] = replace(aged["s3"], dump_age_seconds=None)
    assert make_plan(known, Kind.DRAIN, "s1").knowledge.presence_seconds is None


def test_how_long_passed_on_connections_are_safe_is_in_the_notes() -> None:
    safe = make_plan(fleet(pool(*QUARTERS)), Kind.DRAIN, "s1")
    (note,) = safe.notes
    assert note == (
        "pool web: connections that last over 900 s more may break in later moves "
        "(drain_time_seconds)"
    )
    forgets = make_plan(fleet(pool(*QUARTERS, forget=60.0)), Kind.DRAIN, "s1")
    assert forgets.notes == ("pool web: connections that last over 60 s more break (forget_after)",)
    gone = KnownServer("s1", 1, DRAINING, frozenset({"web"}), alive=False)
    states = {1: DRAINING, 2: ACTIVE, 3: ACTIVE, 4: ACTIVE}
    back = make_plan(fleet(pool((2,), (3,), (4,), states=states), s1=gone), Kind.UNDRAIN, "s1")
    assert "the agent of s1 does not report" in back.notes[0]
