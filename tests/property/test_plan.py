"""A plan is what the controller's own functions then do: the same buckets, hops and connections.

`lived` drives those functions (`next_cluster`, `pool_states`, `decide_pool`, `build`) as the loop
does; what is lost is then counted chain by chain, the slow, obvious way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.builder import BuildRequest, NoServerLeft, build
from controlplane.decide.empty_hops import InUse, occupancy
from controlplane.decide.health import PoolHealth
from controlplane.decide.next_cluster import ClusterNews, next_cluster
from controlplane.decide.plan.ahead import Cause
from controlplane.decide.plan.known import Known, KnownPool, KnownServer
from controlplane.decide.plan.objects import Kind, PoolPlan
from controlplane.decide.plan.plan import make_plan
from controlplane.decide.pool_step import Step, decide_pool, pool_states
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, PoolPresence
from controlplane.domain.objects import Cluster, Pool, Server, ServerState, Table
from controlplane.domain.table_facts import table_facts
from controlplane.settings.models import ControlConfig
from tests.property.builder_world import BUCKETS, DRAIN, MOST_SERVERS, NOW, any_table

ACTIVE, DRAINING, DOWN = ServerState.ACTIVE, ServerState.DRAINING, ServerState.DOWN
KEY_ID = "0123456789abcdef"
STATES = st.sampled_from([ACTIVE, ACTIVE, ACTIVE, DRAINING, DOWN])


@dataclass(frozen=True)
class Given:
    """A fleet: servers in these states, pools with any table, dumps of some servers.

    It is printed as what it is made from.
    """

    states: Mapping[int, ServerState]
    pools: Mapping[str, KnownPool] = field(repr=False)
    seeds: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Given({self.states}, seeds={self.seeds})"

    @property
    def known(self) -> Known:
        servers = {
            f"s{i}": KnownServer(f"s{i}", i, state, frozenset(self.pools), load=0.5, connections=9)
            for i, state in self.states.items()
        }
        return Known(servers, self.pools, slow_start_seconds=30.0)


def pool_of(name: str, seed: int, depth: int, states: Mapping[int, ServerState]) -> KnownPool:
    """A pool as no history may have left it; about half of the servers have reported a dump."""
    draw = np.random.default_rng(seed)
    table = replace(any_table(depth, seed), pool=name)
    dumps = {
        i: (
            Dump(
                1,
                None,
                table.cluster_generation,
                None,
                {name: PoolPresence(KEY_ID, BUCKETS, count, draw.random(BUCKETS) < draw.random())},
            ),
        )
        for i in states
        if (count := int(draw.integers(1, 5000))) % 2
    }
    request = BuildRequest(
        pool=Pool(name, BUCKETS, depth, key_id="k"),
        cluster_generation=1,
        generation=table.generation + 1,
        shares={i: float(draw.choice([0.5, 1.0, 2.0])) for i in states},
        states={i: states.get(i, DOWN) for i in range(1, MOST_SERVERS + 1)},
        settled=True,
        now=NOW,
        drain_time_seconds=DRAIN,
        cap_factor=float(draw.choice([0.0, 1.2, 3.0])),
        forget_after_seconds=[None, DRAIN / 2, 2 * DRAIN][draw.integers(3)],
        forget_occupied=bool(draw.random() < 0.5),
        occupancy=occupancy(table, KEY_ID, InUse(), dumps) if dumps else None,
    )
    presence = {i: last[-1].pools[name] for i, last in dumps.items()}
    return KnownPool(table, request, presence, request.shares)


@st.composite
def fleets(draw: st.DrawFn) -> Given:
    states = draw(st.dictionaries(st.integers(1, MOST_SERVERS), STATES, min_size=2, max_size=6))
    seeds = draw(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=2))
    pools = {}
    for number, seed in enumerate(seeds):
        name, depth = f"p{number}", draw(st.sampled_from([1, 2, 2, 3, 4]))
        pools[name] = pool_of(name, seed, depth, states)
    return Given(states, pools, tuple(seeds))


def cluster_after(fleet: Given, kind: Kind, index: int) -> tuple[Cluster, Cluster]:
    """The cluster document before a change of one server, and the one that follows."""
    servers = tuple(
        Server(f"s{i}", IPv4Address("10.1.0.0") + i, i, state) for i, state in fleet.states.items()
    )
    pools = tuple(found.request.pool for found in fleet.pools.values())
    config = ControlConfig.model_validate(
        {
            "server": [{"name": s.name, "dip": str(s.dip)} for s in servers],
            "pool": [{"name": p.name, "buckets": p.buckets, "depth": p.depth} for p in pools],
        }
    )
    asked = {s.index for s in servers if s.state is DRAINING}
    asked = asked - {index} if kind is Kind.UNDRAIN else asked | {index}
    views = {
        s.name: ServerView(
            s.name,
            known=True,
            heard=s.state is not DOWN,
            drain_requested=s.index in asked,
            ready=True,
        )
        for s in servers
    }
    before = Cluster(1, servers, config.domain_services, pools)
    dead = frozenset({f"s{index}"} if kind is Kind.DOWN else ())
    news = ClusterNews(dead=dead, settled=before)
    found = next_cluster(config, before, views, Settlement("cluster", 1), news, {})
    assert found is not None
    return before, found


def lived(pool: KnownPool, cluster: Cluster) -> Iterator[tuple[Table, int]]:
    """Do rounds as the loop does, each table acknowledged; yield tables and hops forced out."""
    table, request = pool.table, pool.request
    named = {server.index for server in cluster.servers}
    for _ in range(20):
        facts = table_facts(table)
        serving = {
            s.name for s in cluster.servers if s.state is ACTIVE or s.state.value == "joining"
        }
        states = pool_states(cluster, facts, serving, named, ())
        settlement = Settlement(f"table/{table.pool}", table.generation)
        decision = decide_pool(facts, settlement, states, PoolHealth())
        assert decision.step is Step.BUILD
        following = replace(request, states=decision.states, generation=table.generation + 1)
        try:
            result = build(table, following)
        except NoServerLeft:
            return
        if result.table is None:
            return
        table, request = result.table, replace(request, occupancy=None)
        yield table, result.forced
    raise AssertionError("it never ends")


def chain_sets(table: Table) -> list[set[int]]:
    return [set(row) - {0} for row in table.chains.tolist()]


def broken(pool: KnownPool, tables: list[Table]) -> tuple[Counter[int], dict[int, float]]:
    """By server: hops that left a chain, and the connections of its dump in those buckets."""
    hops: Counter[int] = Counter()
    connections: dict[int, float] = {}
    for before, after in zip([pool.table, *tables], tables, strict=False):
        for bucket, (old, new) in enumerate(
            zip(chain_sets(before), chain_sets(after), strict=True)
        ):
            for server in old - new:
                hops[server] += 1
                if (found := pool.presence.get(server)) is not None:
                    mean = found.connections / max(1, int(found.occupied.sum()))
                    each = mean if found.occupied[bucket] else 0.0
                    connections[server] = connections.get(server, 0.0) + each
    return hops, connections


def check(found: PoolPlan, pool: KnownPool, before: Cluster, cluster: Cluster) -> None:
    """Compare a plan with what was then lived."""
    steps = list(lived(pool, cluster))
    tables = [table for table, _ in steps]
    last = tables[-1] if tables else pool.table
    assert found.tables == len(tables)
    assert found.buckets == int((pool.table.chains[:, 0] != last.chains[:, 0]).sum())
    counts = Counter(last.chains[:, 0].tolist())
    assert found.has == {
        f"s{index}" if f"s{index}" in found.has else f"index {index}": count
        for index, count in counts.items()
        if index
    }
    anyway = list(lived(pool, before))
    forced, forced_anyway = (sum(count for _, count in some) for some in (steps, anyway))
    assert found.forced == max(0, forced - forced_anyway)
    assert sum(one.hops for one in found.lost if one.cause is Cause.FORCED) <= forced
    hops, connections = broken(pool, tables)
    planned: dict[str, float] = {}
    for one in found.lost:
        if one.connections is not None:
            planned[one.server] = planned.get(one.server, 0.0) + one.connections
        else:
            index = int(one.server.rpartition("s")[2]) if one.server[0] == "s" else 0
            assert index not in pool.presence
    for server, count in connections.items():
        assert abs(planned.get(f"s{server}", 0.0) - count) <= len(Cause)
    unknown = sum(one.hops for one in found.lost if one.connections is None)
    assert unknown == sum(count for server, count in hops.items() if server not in pool.presence)


@settings(max_examples=150)
@given(fleets(), st.data())
def test_a_drain_does_what_its_plan_shows(fleet: Given, data: st.DataObject) -> None:
    index = data.draw(st.sampled_from(sorted(fleet.states)))
    if fleet.states[index] is not ACTIVE:
        return
    clusters = cluster_after(fleet, Kind.DRAIN, index)
    plan = make_plan(fleet.known, Kind.DRAIN, f"s{index}")
    for found in plan.stages[0].pools:
        check(found, fleet.pools[found.pool], *clusters)
        if found.nobody:
            assert not any(s is ACTIVE for i, s in fleet.states.items() if i != index)


@settings(max_examples=100)
@given(fleets(), st.data())
def test_a_server_that_goes_breaks_what_its_plan_shows(fleet: Given, data: st.DataObject) -> None:
    index = data.draw(st.sampled_from(sorted(fleet.states)))
    others = [s for i, s in fleet.states.items() if i != index]
    if fleet.states[index] is DOWN or ACTIVE not in others:
        return
    clusters = cluster_after(fleet, Kind.DOWN, index)
    plan = make_plan(fleet.known, Kind.DOWN, f"s{index}")
    for found in plan.stages[0].pools:
        check(found, fleet.pools[found.pool], *clusters)


@settings(max_examples=100)
@given(fleets(), st.data())
def test_a_drain_that_ends_gives_back_what_its_plan_shows(
    fleet: Given, data: st.DataObject
) -> None:
    index = data.draw(st.sampled_from(sorted(fleet.states)))
    if fleet.states[index] is not DRAINING:
        return
    clusters = cluster_after(fleet, Kind.UNDRAIN, index)
    plan = make_plan(fleet.known, Kind.UNDRAIN, f"s{index}")
    for found in plan.stages[0].pools:
        check(found, fleet.pools[found.pool], *clusters)
