"""All histories of one bucket, driven by the controller's own decisions.

Three servers forward for the bucket and serve it, each by the newest table or an older one. A
router sends every packet to any of them. One connection of server 1 is followed, from its first
packet on; since servers differ only in their numbers, that is every connection. ``explore`` visits
all states that can be reached and checks in each that a packet of the connection, sent now to any
server, reaches server 1: nobody else would know it.

What the controller does is not written here: `decide_pool`, `build` and `empty_hops` decide. Here
is what can happen around them: tables arrive late or not at all, packets and dumps take their time,
a dump is lost or skips a socket, SYN cookies are sent, servers die, operators change their minds.

Time is abstract: what takes at most so many seconds has happened before anything that the
controller does so many seconds later.

`make histories` explores more than `make test` does.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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

Chain = tuple[int, ...]
SERVERS = (1, 2, 3)
OWNER = 1
NOW = 1000
KEY_ID = "0" * 16
OLD_CLUSTER, NEW_CLUSTER = 1, 2
"""Generations of the cluster document: only the newer one has the connection's service."""
SETTLED, LANDED, COOKIES_OVER = 1, 2, 3
"""What the controller knows of the newest table (``State.stage``); 0: it is not settled."""


class Found(NamedTuple):
    """What a dump of server 1 found, and by what it was made. ``stage``: of its mark."""

    stage: int
    occupied: bool
    cookie: bool
    cluster: int


EARLIER = Found(0, occupied=False, cookie=False, cluster=NEW_CLUSTER)
"""Of a dump before the newest mark, the one that would allow most."""
OCCUPIED = Found(COOKIES_OVER, occupied=True, cookie=False, cluster=NEW_CLUSTER)


class Seen(NamedTuple):
    """The last two dumps of server 1 that the controller has.

    ``in_a_row``: none was between them. ``lost``: a later one was lost. ``skipped``: the last dump
    skipped a socket; the next one does not.
    """

    older: Found = EARLIER
    newer: Found = EARLIER
    in_a_row: bool = True
    lost: bool = False
    skipped: bool = False


class Connection(NamedTuple):
    """The connection of server 1.

    ``kind``: "syn" (its first packet is on its way), "cookie" (a SYN cookie was sent), "late" (a
    UDP flow that has no connected socket yet), "open". ``via``: the server that forwarded its last
    packet, 0 while that does not matter. ``earlier``: its first packet was sent before the newest
    table was settled. ``fresh``: server 1 remembers the flow (docs/wire.md, section 6.4).
    """

    kind: str
    via: int
    earlier: bool
    fresh: bool


class State(NamedTuple):
    """One moment.

    ``newest``: the chain in the newest table. ``views``: the chain that each server has, () if it
    is dead. ``passed``: the silent server that the controller has gone on without, until it has
    the newest table. ``overtaken``: a death was published before the last table was settled.
    ``pushed``: server 1 left the chain because its slot was needed, as the silent server does not
    know. ``stage``: see SETTLED. ``mark``: stage of the newest mark that server 1 has.
    ``dumping``: this mark, whether the connection had a socket, and whether a cookie was sent, when
    the dump that is being made began. ``cluster``: the document that server 1 sorts sockets by.
    """

    newest: Chain
    views: tuple[Chain, ...]
    passed: int = 0
    overtaken: bool = False
    dead: int = 0
    pushed: bool = False
    connection: Connection | tuple[()] = ()
    stage: int = 0
    mark: int = 0
    dumping: tuple[int, bool, bool] | tuple[()] = ()
    seen: Seen = Seen()
    cluster: int = OLD_CLUSTER

    @property
    def living(self) -> list[int]:
        """Servers that are not dead."""
        return [server for server in SERVERS if server != self.dead]

    @property
    def behind(self) -> list[int]:
        """Servers that do not have the newest table."""
        return [s for s in self.living if self.views[s - 1] != self.newest]

    @property
    def follows_routes(self) -> bool:
        """Whether it matters by which server the connection's packets come.

        A connection that the router moves to or from a server that was silent for long can be lost,
        and so can one that it moves while a death overtakes a publication: DESIGN's known limits.
        """
        return self.passed != 0 or self.overtaken


@dataclass(frozen=True)
class Rules:
    """One exploration: what can happen, and which rule of the controller is left out, if any."""

    depth: int = 2
    udp: bool = False
    cookies: bool = False
    late_cluster: bool = False
    silence: bool = True
    deaths: bool = True
    without: str = ""

    def leave_out(self, rule: str) -> Rules:
        """Return the same without one rule of the controller."""
        return replace(self, without=rule)


@dataclass
class Exploration:
    """What was found.

    ``proved``: how often server 1 left the chain because it was proved empty, ``forced``: because
    its slot was needed. ``history``: how a connection breaks, empty if none does.
    """

    states: int = 0
    proved: int = 0
    forced: int = 0
    history: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """A next table: its chain, and whether server 1 left because it was proved empty."""

    chain: Chain
    proved: bool


# What the controller decides


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


def _settlement(state: State) -> Settlement:
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
def _next_table(rules: Rules, known: Round) -> Published | None:
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


# What a packet meets


def _ends_at(chain: Chain, state: State, *, udp: bool, holds: bool) -> int:
    """Return the server that takes a packet sent along this chain, 0 if a dead one swallows it.

    ``holds``: server 1 takes it when it is asked.
    """
    order = chain[::-1] if udp else chain
    for hop in order:
        if hop == state.dead:
            return 0
        if hop == OWNER and holds:
            return OWNER
    return order[-1] if order else 0


def _opens_at_owner(chain: Chain, state: State, *, udp: bool) -> bool:
    """Whether a new connection along this chain is server 1's."""
    if udp:
        return _ends_at(chain, state, udp=True, holds=False) == OWNER
    return chain[:1] == (OWNER,)


def is_broken(state: State, rules: Rules) -> bool:
    """Whether a packet of the connection, sent now, ends at a server that does not know it."""
    connection = state.connection
    if not connection or connection.kind == "syn":
        return False
    if connection.kind == "late" and not connection.fresh:
        return False  # a known limit: an application that is slower than a settled generation
    for server in state.living:
        end = _ends_at(state.views[server - 1], state, udp=rules.udp, holds=True)
        if end in (0, OWNER):
            continue
        moved = server != connection.via
        excused = (
            state.follows_routes
            and moved
            and (state.overtaken or state.passed in (server, connection.via))
        )
        if not excused:
            return True
    return False


# What can happen


Event = tuple[str, State]


def events(state: State, rules: Rules) -> Iterator[Event]:
    """Yield all that can happen next."""
    yield from _tables_arrive(state)
    yield from _controller_acts(state, rules)
    yield from _connection_goes_on(state, rules)
    if OWNER in state.newest[1:] and state.stage:
        yield from _server_looks(state, rules)
    if rules.deaths and not state.dead:
        for server in (2, 3):
            for after in _without(state, server):
                yield f"server {server} dies", after


def _tables_arrive(state: State) -> Iterator[Event]:
    for server in state.behind:
        views = tuple(state.newest if s == server else v for s, v in enumerate(state.views, 1))
        yield f"server {server} takes {state.newest}", _calm(state._replace(views=views))


def _calm(state: State) -> State:
    """Forget what does not matter any more."""
    behind = state.behind
    passed = state.passed if state.passed in behind else 0
    state = state._replace(passed=passed, overtaken=state.overtaken and bool(behind))
    if not passed and OWNER in state.newest:
        state = state._replace(pushed=False)
    if state.connection and not state.follows_routes:
        state = state._replace(connection=state.connection._replace(via=0))
    return state


def _without(state: State, server: int) -> Iterator[State]:
    views = tuple(() if s == server else v for s, v in enumerate(state.views, 1))
    after = state._replace(views=views, dead=server)
    connection = state.connection
    if not connection or connection.via != server:
        yield _calm(after)
        return
    for other in after.living:  # the router moves it, and not to one that has been silent for long
        if other != after.passed:
            yield _calm(after._replace(connection=connection._replace(via=other)))


def _controller_acts(state: State, rules: Rules) -> Iterator[Event]:
    settlement = _settlement(state)
    if rules.without == "strictly settled":
        seen_settled = settlement.passable
    else:
        seen_settled = InUse(5).follow(settlement, NOW).since is not None
    if state.stage == 0 and seen_settled:
        yield "the table is settled", _settle(state)
    if state.stage in (SETTLED, LANDED) and _has_landed(state, rules):
        yield f"a mark is given out ({state.stage + 1})", state._replace(stage=state.stage + 1)
    if not rules.silence:
        settlement = replace(settlement, silent=())
    for wanted in SERVERS:
        for others_empty in (False, True):
            seen = state.seen._replace(lost=False, skipped=False)
            known = Round(
                state.newest, settlement, state.dead, wanted, state.stage, seen, others_empty
            )
            found = _next_table(rules, known)
            if found and found.chain != state.newest:
                for after in _publish(state, found, settlement):
                    yield f"published: {found.chain}", after


def _settle(state: State) -> State:
    connection = state.connection
    if connection and connection.kind != "open":
        connection = connection._replace(earlier=True)
    return state._replace(stage=SETTLED, connection=connection)


def _has_landed(state: State, rules: Rules) -> bool:
    """Whether what takes its time has happened before the next mark."""
    connection = state.connection
    if not connection or not connection.earlier:
        return True
    if connection.kind == "syn":
        return False
    if connection.kind == "late":
        return rules.without == "time to open"
    return connection.kind != "cookie" or state.stage < LANDED


def _publish(state: State, found: Published, settlement: Settlement) -> Iterator[State]:
    connection = state.connection
    leaves = OWNER in state.newest and OWNER not in found.chain
    if connection and leaves and not found.proved:
        connection = ()  # forced, counted and reported
    unsure = connection and connection.kind in ("syn", "late") and not connection.fresh
    if unsure and connection and found.chain[0] != OWNER and state.newest[0] == OWNER:
        connection = connection if connection.kind == "syn" else ()
    behind = state.behind
    passed = behind[0] if len(behind) == 1 and settlement.passable else state.passed
    overtaken = state.overtaken or (bool(behind) and not settlement.passable)
    pushed = (state.pushed and (passed or OWNER not in found.chain)) or (
        leaves and not found.proved
    )
    after = state._replace(
        newest=found.chain,
        passed=passed,
        overtaken=overtaken,
        pushed=bool(pushed),
        connection=connection,
        stage=0,
        mark=0,
        dumping=(),
        seen=Seen(skipped=state.seen.skipped),
    )
    if connection and connection.via == 0 and after.follows_routes:
        for server in after.living:
            yield _calm(after._replace(connection=connection._replace(via=server)))
    else:
        yield _calm(after)


def _connection_goes_on(state: State, rules: Rules) -> Iterator[Event]:
    connection = state.connection
    if not connection:
        yield from _first_packets(state, rules)
    elif connection.kind == "syn":
        yield (
            "it lands",
            state._replace(connection=connection._replace(kind="late" if rules.udp else "open")),
        )
        if rules.cookies:
            yield (
                "it lands, a cookie is sent",
                state._replace(connection=connection._replace(kind="cookie")),
            )
    else:
        end = "it is closed" if connection.kind == "open" else "its time is over"
        yield end, state._replace(connection=())
        if connection.kind != "open":
            yield (
                "it has a socket",
                state._replace(
                    connection=Connection("open", connection.via, earlier=False, fresh=False)
                ),
            )
        yield from _later_packets(state, connection, rules)


def _first_packets(state: State, rules: Rules) -> Iterator[Event]:
    for server in state.living:
        view = state.views[server - 1]
        if not _opens_at_owner(view, state, udp=rules.udp):
            continue
        if state.pushed and server == state.passed:
            continue  # a known limit: the silent server does not know that 1 was forced out
        via = server if state.follows_routes else 0
        fresh = rules.udp and len(view) > 1
        opened = Connection("syn", via, earlier=False, fresh=fresh)
        yield f"a first packet by server {server}", state._replace(connection=opened)


def _later_packets(state: State, connection: Connection, rules: Rules) -> Iterator[Event]:
    """Packets that change what is known of the connection."""
    for server in state.living:
        view = state.views[server - 1]
        holds = connection.kind != "late" or connection.fresh
        if _ends_at(view, state, udp=rules.udp, holds=holds) != OWNER:
            continue
        via = server if state.follows_routes else 0
        fresh = connection.fresh or (connection.kind == "late" and len(view) > 1)
        after = connection._replace(via=via, fresh=fresh)
        if after != connection:
            yield f"a packet by server {server}", state._replace(connection=after)


def _server_looks(state: State, rules: Rules) -> Iterator[Event]:
    """Server 1 gets marks and the cluster document, and dumps its sockets."""
    if state.stage >= LANDED and state.mark < state.stage:
        yield "server 1 has the mark", state._replace(mark=state.stage)
    if rules.late_cluster and state.cluster == OLD_CLUSTER:
        yield "server 1 has the cluster document", state._replace(cluster=NEW_CLUSTER)
    kind = state.connection.kind if state.connection else ""
    if not state.dumping:
        began = state.mark, kind == "open", kind == "cookie"
        yield "a dump begins", state._replace(dumping=began)
        return
    mark, had_socket, cookie = state.dumping
    if rules.without == "mark at the beginning":
        mark = state.mark
    if rules.without == "cookie at the beginning":
        cookie = kind == "cookie"
    state = state._replace(dumping=())
    cluster = state.cluster if rules.late_cluster else NEW_CLUSTER
    empty = Found(mark, occupied=False, cookie=cookie, cluster=cluster) if mark else EARLIER
    for found, skipped in _findings(state, empty, had_socket=had_socket):
        seen = Seen(
            state.seen.newer, found, in_a_row=not state.seen.lost, lost=False, skipped=skipped
        )
        yield f"a dump ends: {found}", state._replace(seen=seen)
        yield "a dump is lost", state._replace(seen=state.seen._replace(lost=True, skipped=skipped))


def _findings(state: State, empty: Found, *, had_socket: bool) -> Iterator[tuple[Found, bool]]:
    """Yield what a dump may find, and whether it skipped the socket."""
    has_socket = bool(state.connection and state.connection.kind == "open")
    if empty.cluster == OLD_CLUSTER:  # the socket belongs to no service that it knows
        yield empty, False
        return
    if has_socket or had_socket:
        yield OCCUPIED, False
    if not (has_socket and had_socket):
        yield empty, False
    elif not state.seen.skipped:
        yield empty, True


# The exploration

_OTHER = {0: 0, 1: 1, 2: 3, 3: 2}


def _smaller(state: State) -> State:
    """Return this state, or the same one with servers 2 and 3 exchanged: one stands for both."""
    views = state.views
    swapped = state._replace(
        newest=tuple(_OTHER[hop] for hop in state.newest),
        views=tuple(tuple(_OTHER[hop] for hop in views[at]) for at in (0, 2, 1)),
        passed=_OTHER[state.passed],
        dead=_OTHER[state.dead],
        connection=state.connection and state.connection._replace(via=_OTHER[state.connection.via]),
    )
    return min(state, swapped)


def explore(rules: Rules) -> Exploration:
    """Visit all states, the nearest first, until a connection breaks."""
    first = [State((server,), ((server,),) * 3) for server in (1, 2)]
    before: dict[State, tuple[str, State] | None] = dict.fromkeys(map(_smaller, first))
    waiting = deque(before)
    done = Exploration()
    while waiting and not done.history:
        state = waiting.popleft()
        for name, after in events(state, rules):
            if OWNER in state.newest and OWNER not in after.newest:
                done.proved += not after.pushed
                done.forced += after.pushed
            known = _smaller(after)
            if known in before:
                continue
            before[known] = name, state
            if is_broken(known, rules):
                done.history = _history(known, before)
                break
            waiting.append(known)
    done.states = len(before)
    return done


def _history(state: State, before: dict[State, tuple[str, State] | None]) -> list[str]:
    """Return how a state came about. Servers 2 and 3 may be exchanged between two lines."""
    lines = [str(state)]
    while (step := before[state]) is not None:
        lines.append(step[0])
        state = step[1]
    return [*lines, f"begins with {state.newest}"][::-1]


EVERYTHING = tuple(
    Rules(depth, udp=udp, cookies=not udp, late_cluster=True)
    for udp in (False, True)
    for depth in (2, 3, 4)
)


def main() -> int:
    """Explore everything at once, and print what was found."""
    broken = False
    for rules in EVERYTHING:
        started = time.monotonic()
        done = explore(rules)
        seconds = time.monotonic() - started
        print(
            f"{rules}: {done.states} states, {done.proved} hops left, {done.forced} forced out, "
            f"{seconds:.0f} s",
            *done.history,
            sep="\n    ",
            flush=True,
        )
        broken |= bool(done.history)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
