"""Why a server lacks buckets: every one has a reason, and the numbers add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import numpy as np
import pytest

from controlplane.builder import BuildRequest, Occupancy, build
from controlplane.decide.health import PoolHealth
from controlplane.decide.pool_step import PoolDecision, Step
from controlplane.decide.reasons import FullChains, PoolFacts, explain, full_chains
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.decide.views import FleetView
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.decisions import Reason, ServerBuckets
from controlplane.domain.objects import (
    TCP,
    Cluster,
    Pool,
    Report,
    Server,
    ServerState,
    Service,
    ServiceHealth,
    Table,
)
from controlplane.domain.table_facts import table_facts

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
NOW = 10_000
SERVICE = Service("http", IPv4Network("192.0.2.1"), TCP, 80, "web")


def facts(
    states: Mapping[int, ServerState],
    *chains: tuple[int, ...],
    age: int = 5000,
    shares: Mapping[int, float] | None = None,
    full: Mapping[int, float] | None = None,
    caps: Mapping[int, int] | None = None,
    **more: Any,
) -> PoolFacts:
    """A pool whose buckets have these chains, in equal parts; servers s1... in these states."""
    rows = np.zeros((256, 2), dtype=np.uint16)
    for number, chain in enumerate(chains):
        rows[number :: len(chains), : len(chain)] = chain
    table = Table("web", 1, 1, rows, np.full(256, NOW - age, dtype=np.uint32))
    servers = tuple(
        Server(f"s{i}", IPv4Address("10.1.0.0") + i, i, state) for i, state in states.items()
    )
    names = [server.name for server in servers]
    cluster = Cluster(3, servers, (SERVICE,))
    builder_states = more.pop("builder_states", states)
    request = BuildRequest(
        pool=Pool("web", 256, 2, key_id="k"),
        cluster_generation=1,
        generation=2,
        shares=shares or {},
        states=builder_states,
        settled=False,
        now=NOW,
        drain_time_seconds=900.0,
        caps=caps or {},
    )
    views = {name: ServerView(name, known=True, heard=True) for name in names}
    made = PoolFacts(
        pool="web",
        buckets=256,
        cluster=cluster,
        fleet=FleetView(cluster, views),
        members=names,
        states=builder_states,
        current=table_facts(table).current,
        full=full or shares or {},
        shares=shares or {},
        health=PoolHealth(),
        failing=frozenset(),
        decision=PoolDecision(Step.BUILD),
        settlement=Settlement("table/web", 1),
        cluster_settlement=Settlement("cluster", 3),
        plan=build(table, request),
    )
    return replace(made, **more)


def missing(found: ServerBuckets) -> dict[Reason, int]:
    return {one.reason: one.buckets for one in found.missing}


FOUR = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: ACTIVE}
FULL = ((1, 2), (2, 3), (3, 1))
SPACE = ((1,), (2,), (3,))


def test_a_server_with_its_part_lacks_nothing() -> None:
    found = explain(facts(FOUR, (1,), (2,), (3,), (4,)))
    assert found == {f"s{i}": ServerBuckets(64, 64) for i in range(1, 5)}


def test_full_chains() -> None:
    found = explain(facts(FOUR, *FULL, age=10))["s4"]
    assert (found.buckets, found.part, missing(found)) == (0, 64, {Reason.CHAIN_FULL: 64})
    assert "drain time" in found.missing[0].detail


def test_moving_and_what_moves_wait_for() -> None:
    assert missing(explain(facts(FOUR, *SPACE))["s4"]) == {Reason.MOVING: 64}
    unsettled = Settlement("table/web", 7, waiting_for=("s2", "s3"))
    waits = explain(facts(FOUR, *SPACE, decision=PoolDecision(Step.WAIT), settlement=unsettled))
    assert missing(waits["s4"]) == {Reason.SETTLING: 64}
    assert waits["s4"].missing[0].detail == "table/web generation 7 waits for s2, s3"
    silent = explain(facts(FOUR, *SPACE, decision=PoolDecision(Step.WAIT), silent={"s2"}))
    assert missing(silent["s4"]) == {Reason.SILENT: 64}
    assert "wait for s2" in silent["s4"].missing[0].detail


def test_weight_slow_start_and_cap_in_their_order() -> None:
    full = {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.5}
    light = explain(facts(FOUR, *SPACE, shares=full))["s4"]
    assert missing(light) == {Reason.WEIGHT: 27, Reason.MOVING: 36, Reason.OTHER: 1}
    joining = {**FOUR, 4: JOINING}
    ramped = explain(facts(joining, *SPACE, shares={**full, 4: 0.25}, full=full))["s4"]
    slow = {Reason.WEIGHT: 27, Reason.SLOW_START: 17, Reason.MOVING: 19, Reason.OTHER: 1}
    assert missing(ramped) == slow
    assert "of its share" in ramped.missing[1].detail
    capped = explain(facts(FOUR, *SPACE, caps={4: 10}))["s4"]
    assert missing(capped) == {Reason.CAP: 54, Reason.MOVING: 10}


@pytest.mark.parametrize("state", list(ServerState))
def test_the_numbers_always_add_up(state: ServerState) -> None:
    for chains in (SPACE, FULL, ((4, 1), (2, 1), (3, 1))):
        for shares in ({}, {1: 2.0, 2: 0.1, 3: 0.3, 4: 0.7}):
            found = facts({**FOUR, 4: state}, *chains, age=100, shares=shares)
            for one in explain(found).values():
                assert sum(missing(one).values()) == max(0, one.part - one.buckets)


def only(found: PoolFacts) -> tuple[Reason, str]:
    (one,) = explain(found)["s4"].missing
    assert one.buckets == 64
    return one.reason, one.detail


def seen(found: PoolFacts, **view: Any) -> PoolFacts:
    """The same, with another view of s4."""
    views = {**found.fleet.servers, "s4": replace(found.fleet.servers["s4"], **view)}
    return replace(found, fleet=replace(found.fleet, servers=views))


def test_a_requested_drain_names_who_and_why() -> None:
    found = facts({**FOUR, 4: DRAINING}, *SPACE)
    assert only(found) == (Reason.DRAINING, "its drain is requested")
    request = DrainRequest(by="ann@gw", reason="new kernel")
    asked = replace(found, fleet=replace(found.fleet, drain_requests={"s4": request}))
    assert only(asked) == (Reason.DRAINING, "its drain is requested by ann@gw: new kernel")
    assert only(seen(found, configured=False))[1] == "it is not in the settings any more"


def without_plan(states: Mapping[int, ServerState], *chains: tuple[int, ...]) -> PoolFacts:
    """A pool of which the builder cannot make a table: no server may be given buckets."""
    made = facts(states, *chains, builder_states=dict.fromkeys(states, ACTIVE))
    return replace(made, states=states, plan=None)


def test_the_last_server_of_a_pool_keeps_its_buckets_and_it_says_so() -> None:
    """An equal part of one server would be all of them: nothing is missing, and it drains."""
    found = explain(without_plan({1: DRAINING}, (1,)))["s1"]
    assert (found.buckets, found.part, found.missing) == (256, 256, ())
    assert found.keeps == (
        "no other server of the pool can take its buckets, so it keeps them until one can; its "
        "drain is requested"
    )
    two = explain(without_plan({1: DRAINING, 2: DRAINING, 3: DOWN}, (1,), (2,)))
    assert [(two[n].buckets, two[n].part, bool(two[n].keeps)) for n in ("s1", "s2")] == [
        (128, 128, True),
        (128, 128, True),
    ]
    assert not two["s3"].keeps
    assert not explain(facts({1: DRAINING, 2: ACTIVE}, (1,), (2,)))["s1"].keeps


def test_health_names_the_services_unless_it_is_a_panic() -> None:
    unhealthy = {**FOUR, 4: DRAINING}
    found = facts(FOUR, *SPACE, builder_states=unhealthy, failing=frozenset({("s4", "http")}))
    reports = {"s4": Report("s4", "b", 1, 0.0, checks={"http": ServiceHealth(False, "status 503")})}
    found = replace(
        found, health=PoolHealth(frozenset({"s4"})), fleet=replace(found.fleet, reports=reports)
    )
    assert only(found) == (Reason.HEALTH, "checks fail: http: status 503")


def test_servers_that_are_not_in_use() -> None:
    down = facts({**FOUR, 4: DOWN}, *SPACE)
    assert only(seen(down, heard=False)) == (Reason.NOT_IN_USE, "down: it does not answer")
    lost = seen(down, cut_off=True, cut_off_reason="s1, s2 do not reach it")
    assert only(lost)[1] == "down: s1, s2 do not reach it"
    assert only(seen(down, stopped=True))[1] == "down: its agent reported that it stopped"
    registered = facts({**FOUR, 4: REGISTERED}, *SPACE)
    assert only(seen(registered, heard=False))[1].startswith("registered: its agent does not")
    waits = Settlement("cluster", 9, waiting_for=("s2",))
    assert only(replace(registered, cluster_settlement=waits)) == (
        Reason.SETTLING,
        "cluster generation 9 waits for s2",
    )
    assert only(seen(registered, drain_requested=True)) == (
        Reason.DRAINING,
        "it does not join while its drain is requested",
    )
    untrusted = {**FOUR, 4: REGISTERED}
    new = facts({**FOUR, 4: JOINING}, *SPACE, builder_states=untrusted, cluster_settlement=waits)
    new = seen(new, ready=True)
    assert only(new) == (Reason.SETTLING, "cluster generation 9 waits for s2")


def test_a_server_that_is_not_ready() -> None:
    states = {**FOUR, 4: DRAINING}
    joining = facts({**FOUR, 4: JOINING}, *SPACE, builder_states=states)
    assert only(joining)[1].startswith("joining, but not ready")
    unfit = facts(FOUR, *SPACE, builder_states=states, health=PoolHealth(frozenset({"s4"})))
    assert only(unfit) == (Reason.HEALTH, "it is not ready: lbctl status there shows why")


def test_a_server_of_another_pool_is_left_out() -> None:
    assert "s4" not in explain(facts(FOUR, *SPACE, members=["s1", "s2", "s3"]))


def test_what_servers_reported_of_full_chains_is_in_the_reason() -> None:
    """Every chain is full: of its last hops, s3's have 2 connections each in the first half."""
    rows = np.zeros((256, 2), dtype=np.uint16)
    rows[0::2], rows[1::2] = (1, 3), (2, 4)
    table = Table("web", 1, 1, rows, np.full(256, NOW - 100, dtype=np.uint32))
    known, occupied = (np.ones((256, 2), dtype=np.bool_) for _ in range(2))
    known[1::2, 1], occupied[128::2, 1] = False, False
    per_bucket = np.full(5, 2.0)
    occupancy = Occupancy(known, occupied, np.zeros_like(known), per_bucket, np.zeros(5))
    request = BuildRequest(
        pool=Pool("web", 256, 2, key_id="k"),
        cluster_generation=1,
        generation=2,
        shares={},
        states={},
        settled=False,
        now=NOW,
        drain_time_seconds=900.0,
        occupancy=occupancy,
    )
    found = full_chains(table, request)
    assert found == FullChains(256, 64, 128, 64)
    assert full_chains(table, replace(request, occupancy=None)) == FullChains(256)
    assert full_chains(table, replace(request, now=NOW + 900.0)) is None
    text = "64 have about 128 connections, 64 have none and leave soon, 128 are unknown"
    assert str(found) == text
    states = {1: ACTIVE, 2: ACTIVE, 3: ACTIVE, 4: ACTIVE, 5: ACTIVE}
    pool = facts(states, (1, 3), (2, 4), age=100, full_chains=found)
    (reason,) = (m for m in explain(pool)["s5"].missing if m.reason is Reason.CHAIN_FULL)
    assert reason.detail.endswith(f"this ends by itself (of 256: {text})")
