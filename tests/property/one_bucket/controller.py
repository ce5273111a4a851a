"""What the controller decides: its own functions, with what a state says it knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from controlplane.builder import BuildRequest, NoServerLeft, build
from controlplane.decide.empty_hops import COOKIE_SECONDS, InUse, occupancy
from controlplane.decide.health import PoolHealth
from controlplane.decide.pool_step import Step, decide_pool
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, Mark, PoolPresence
from controlplane.domain.objects import Pool, ServerState, Table
from controlplane.domain.table_facts import table_facts
from tests.property.one_bucket.states import (
    COOKIES_OVER,
    LANDED,
    NEW_CLUSTER,
    OLD_CLUSTER,
    OWNER,
    SERVERS,
    SETTLED,
    Chain,
    Found,
    Rules,
    Seen,
    State,
)

NOW = 1000
KEY_ID = "0" * 16


@dataclass(frozen=True)
class Published:
    """A next table: its chain, and whether server 1 left because it was proved empty."""

    chain: Chain
    proved: bool


def _table(chain: Chain, depth: int) -> Table:
    chains = np.zeros((1, depth), dtype=np.uint16)
    chains[0, : len(chain)] = chain
    moved_at = np.full(1, NOW, dtype=np.uint32)
    return Table("p", 5, OLD_CLUSTER, chains, moved_at)


def _dump(number: int, found: Found, rules: Rules) -> Dump:
    occupied = np.array([found.occupied])
    pool = PoolPresence(KEY_ID, 1, int(found.occupied), occupied)
    stage = LANDED if rules.without == "mark" and found.stage < LANDED else found.stage
    cookie = found.cookie and rules.without != "cookie"
    age = COOKIE_SECONDS / 2 if cookie else None
    return Dump(number, Mark(1, stage), found.cluster, age, {"p": pool})


def _dumps(seen: Seen, rules: Rules) -> tuple[Dump, ...]:
    if rules.without == "second dump":
        return tuple(_dump(number, seen.newer, rules) for number in (9, 10))
    older = 9 if seen.in_a_row or rules.without == "dumps in a row" else 8
    return _dump(older, seen.older, rules), _dump(10, seen.newer, rules)


@cache
def _in_use(stage: int, rules: Rules) -> InUse:
    """Return what the controller has found out by this stage, step by step as its rounds do."""
    settled = Settlement("table/p", 5)
    found = InUse(5)
    for at, wanted in enumerate((SETTLED, LANDED, COOKIES_OVER)):
        if stage >= wanted:
            now = NOW + at * 2 * COOKIE_SECONDS
            found = found.follow(settled, now)
            if found.needs_mark(now, 0.0):
                found = found.marked(Mark(1, wanted), NEW_CLUSTER)
    if rules.without == "newest cluster document":
        found = replace(found, cluster_generation=OLD_CLUSTER)
    return found


def settlement_of(state: State) -> Settlement:
    behind = state.behind
    silent = behind if len(behind) == 1 and state.passed in (0, behind[0]) else []
    return Settlement("table/p", 5, tuple(map(str, behind)), tuple(map(str, silent)))


class Round(NamedTuple):
    """What the controller knows in a round.

    ``wanted``: the one server that is not drained. ``others_empty``: servers 2 and 3 have proved
    that they have no connection; else they have reported nothing.
    """

    newest: Chain
    settlement: Settlement
    dead: int
    wanted: int
    stage: int
    seen: Seen
    others_empty: bool


@cache
def next_table(rules: Rules, known: Round) -> Published | None:
    """Return the table that the controller publishes now, if any."""
    newest, settlement, dead, wanted, stage, seen, others_empty = known
    table = _table(newest, rules.depth)
    states = {s: ServerState.ACTIVE if s == wanted else ServerState.DRAINING for s in SERVERS}
    states |= {dead: ServerState.DOWN} if dead else {}
    decision = decide_pool(
        table_facts(table), settlement, states, PoolHealth(), silent=settlement.silent
    )
    if decision.step is Step.WAIT:
        return None
    empty = Found(COOKIES_OVER, occupied=False, cookie=False, cluster=NEW_CLUSTER)
    others = _dumps(Seen(empty, empty), rules) if others_empty else ()
    dumps = {OWNER: _dumps(seen, rules), 2: others, 3: others}
    in_use = _in_use(stage, rules)
    found = occupancy(table, KEY_ID, in_use, dumps)
    request = BuildRequest(
        pool=Pool("p", 1, rules.depth, key_id="k"),
        cluster_generation=OLD_CLUSTER,
        generation=6,
        shares={wanted: 1.0},
        states=decision.states,
        settled=decision.step is Step.BUILD,
        now=NOW,
        drain_time_seconds=1e9,
        occupancy=found,
    )
    try:
        result = build(table, request)
        forced = result.forced
        if rules.without == "two steps" and result.prepared:
            result = build(result.table, replace(request, generation=7, occupancy=None))
    except NoServerLeft:
        return None
    if result.table is None:
        return None
    chain = tuple(int(hop) for hop in result.table.chains[0] if hop)
    position = newest.index(OWNER) if OWNER in newest else 0
    proved = OWNER not in chain and bool(found.may_leave[0, position])
    if OWNER in newest and OWNER not in chain:
        assert proved or forced == 1, "a hop left that no rule lets go"
    return Published(chain, proved)
