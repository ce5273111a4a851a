"""A pool's life as Hypothesis invents it, and independent judges of the builder's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from controlplane.builder import BuildRequest, BuildResult, NoServerLeft, build
from controlplane.domain.objects import Pool, ServerState, Table

BUCKETS = 256
DRAIN = 100.0
NOW = 1e6
MOST_SERVERS = 7
S = ServerState

Chain = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One build: the table before, what was asked, the answer."""

    old: Table | None
    request: BuildRequest
    result: BuildResult

    @property
    def new(self) -> Table | None:
        """The table in force after this step."""
        return self.result.table if self.result.table is not None else self.old

    def known(self, index: int) -> bool:
        """Whether a server may be in a chain."""
        return self.request.states.get(index, S.DOWN) is not S.DOWN

    def eligible(self, index: int) -> bool:
        """Whether a server may be given buckets."""
        return self.request.states.get(index) in (S.ACTIVE, S.JOINING)


def chains_of(table: Table | None) -> list[Chain]:
    """The chains without their empty slots; fails on holes in front of servers."""
    if table is None:
        return [()] * BUCKETS
    chains = []
    for row in table.chains.tolist():
        chain = tuple(hop for hop in row if hop)
        assert list(chain) + [0] * (len(row) - len(chain)) == row, f"a hole in {row}"
        chains.append(chain)
    return chains


def counts_of(table: Table | None) -> Counter[int]:
    """Buckets that each server is current for."""
    return Counter(chain[0] for chain in chains_of(table) if chain)


@dataclass
class World:
    """What a controller would know; ``step`` applies one invented event and builds."""

    depth: int
    states: dict[int, ServerState]
    shares: dict[int, float]
    forget: float | None
    cap_factor: float
    caps: dict[int, int] = field(default_factory=dict)
    now: float = NOW
    table: Table | None = field(default=None, repr=False)
    seed: int | None = None

    def request(self, *, settled: bool) -> BuildRequest:
        """The request as things stand."""
        return BuildRequest(
            pool=Pool("p", BUCKETS, self.depth, key_id="k"),
            cluster_generation=1,
            generation=1 if self.table is None else self.table.generation + 1,
            shares=dict(self.shares),
            states=dict(self.states),
            settled=settled,
            now=self.now,
            drain_time_seconds=DRAIN,
            caps=dict(self.caps),
            cap_factor=self.cap_factor,
            forget_after_seconds=self.forget,
        )

    def build(self, *, settled: bool) -> Step | None:
        """Build and keep the table; ``None`` if no server is left to serve."""
        request = self.request(settled=settled)
        if not any(s in (S.ACTIVE, S.JOINING) for s in self.states.values()):
            try:
                build(self.table, request)
            except NoServerLeft:
                return None
            raise AssertionError("built a table without a server")
        step = Step(self.table, request, build(self.table, request))
        self.table = step.new
        return step

    def happen(self, event: Any) -> None:
        """Let one event happen."""
        kind, server, value = event
        if kind == "share" and server in self.shares:
            self.shares[server] = value
        elif kind == "shares":
            self.shares = {
                i: round((share + value * i) % 3.0, 3) for i, share in self.shares.items()
            }
        elif kind == "state":
            self.states[server] = value
            self.shares.setdefault(server, 1.0)
        elif kind == "gone":
            self.states.pop(server, None)
            self.shares.pop(server, None)
        elif kind == "cap":
            self.caps[server] = value
        elif kind == "uncap":
            self.caps.pop(server, None)
        elif kind == "time":
            self.now += value


servers = st.integers(1, MOST_SERVERS)
share_values = st.sampled_from([0.0, 0.1, 0.9, 1.0, 1.001, 2.0]) | st.floats(0.001, 4)
events = st.one_of(
    st.tuples(st.just("share"), servers, share_values),
    st.tuples(st.just("shares"), servers, st.floats(0, 2)),
    st.tuples(st.just("state"), servers, st.sampled_from(list(S))),
    st.tuples(st.just("state"), servers, st.just(S.ACTIVE)),
    st.tuples(st.just("gone"), servers, st.none()),
    st.tuples(st.just("cap"), servers, st.integers(0, BUCKETS)),
    st.tuples(st.just("uncap"), servers, st.none()),
    st.tuples(st.just("time"), servers, st.sampled_from([1.0, 30.0, DRAIN, 3 * DRAIN, -20.0])),
    st.tuples(st.just("nothing"), servers, st.none()),
)
histories = st.lists(st.tuples(st.lists(events, max_size=2), st.booleans()), max_size=12)


def any_table(depth: int, seed: int) -> Table:
    """A table as no history may have left it: chains of all lengths, moved at all times."""
    draw = np.random.default_rng(seed)
    chains = np.zeros((BUCKETS, depth), dtype=np.uint16)
    # Few servers are current, so that some have far too much.
    current = draw.permutation(MOST_SERVERS)[: draw.integers(1, MOST_SERVERS + 1)] + 1
    full, young = draw.random(2) ** 0.25
    for row in chains:
        first = draw.choice(current)
        others = [i for i in draw.permutation(MOST_SERVERS) + 1 if i != first]
        length = depth if draw.random() < full else draw.integers(1, depth + 1)
        row[:length] = [first, *others][:length]
    ages = np.where(
        draw.random(BUCKETS) < young,
        draw.choice([1, DRAIN / 2, DRAIN - 1], BUCKETS),
        draw.choice([DRAIN, DRAIN + 1, 2 * DRAIN, 3 * DRAIN, NOW], BUCKETS),
    )
    return Table("p", 7, 1, chains, (NOW - ages).astype(np.uint32))


@st.composite
def worlds_of(draw: st.DrawFn, *, begun: bool) -> World:
    """A world before its first table or, ``begun``, perhaps with any table."""
    depth = draw(st.sampled_from([1, 2, 2, 2, 3, 4]))
    seed = draw(st.none() | st.integers(0, 1 << 30)) if begun else None
    return World(
        depth=depth,
        states=draw(st.dictionaries(servers, st.just(S.ACTIVE), min_size=2, max_size=5)),
        shares=draw(st.dictionaries(servers, share_values, max_size=5)),
        forget=draw(st.sampled_from([None, None, DRAIN, 2 * DRAIN])),
        cap_factor=draw(st.sampled_from([0.0, 1.0, 1.2, 3.0])),
        table=None if seed is None else any_table(depth, seed),
        seed=seed,
    )


worlds = worlds_of(begun=True)
new_worlds = worlds_of(begun=False)


def live(world: World, history: list[Any]) -> Iterator[Step]:
    """Live through a history, first table included, and yield every build."""
    for happenings, settled in [([], True), *history]:
        for event in happenings:
            world.happen(event)
        step = world.build(settled=settled)
        if step is not None:
            yield step


def quotas(request: BuildRequest) -> dict[int, Fraction]:
    """Each server's part of the table in exact numbers, capped; the slow, obvious way."""
    some = {i for i, s in request.states.items() if s in (S.ACTIVE, S.JOINING)}
    given = [Fraction(request.shares[i]) for i in some if i in request.shares]
    mean = sum(given, Fraction()) / len(given) if given else Fraction(1)
    share = {i: Fraction(request.shares[i]) if i in request.shares else mean for i in some}
    if not any(share.values()):
        share = dict.fromkeys(some, Fraction(1))
    infinite = Fraction(1 << 40)
    limit = {i: Fraction(request.caps.get(i, infinite)) for i in some}
    caps = {i: min(limit[i], bound_of(request)) for i in some}
    quota = dict.fromkeys(some, Fraction())
    for capacity in (caps, limit, dict.fromkeys(some, infinite)):
        for weights in (share, dict.fromkeys(some, Fraction(1))):
            while (left := BUCKETS - sum(quota.values(), Fraction())) > 0:
                takers = [i for i in some if weights[i] > 0 and quota[i] < capacity[i]]
                if not takers:
                    break
                weight = sum((weights[i] for i in takers), Fraction())
                # As far as the first who is full, or to the end.
                rise = min(left / weight, *((capacity[i] - quota[i]) / weights[i] for i in takers))
                for i in takers:
                    quota[i] += weights[i] * rise
    return quota


def bound_of(request: BuildRequest) -> Fraction:
    """The bounded load, in buckets."""
    some = sum(1 for s in request.states.values() if s in (S.ACTIVE, S.JOINING))
    if request.cap_factor <= 0:
        return Fraction(1 << 40)
    exact = Fraction(str(request.cap_factor)) * BUCKETS / some
    return Fraction(-(-exact.numerator // exact.denominator))


def cap_of(request: BuildRequest, index: int) -> float:
    """The most buckets a server may get; 0 if it may get none."""
    if request.states.get(index) not in (S.ACTIVE, S.JOINING):
        return 0
    return min(float(request.caps.get(index, 1 << 40)), float(bound_of(request)))


def same(left: Table | None, right: Table | None) -> bool:
    """Whether two tables are equal to the byte."""
    if left is None or right is None:
        return left is right
    return (left.pool, left.generation, left.cluster_generation) == (
        right.pool,
        right.generation,
        right.cluster_generation,
    ) and bool(
        np.array_equal(left.chains, right.chains) and np.array_equal(left.moved_at, right.moved_at)
    )
