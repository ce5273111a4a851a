"""What can happen to one bucket, from each state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controlplane.decide.empty_hops import InUse
from controlplane.decide.settlement import Settlement
from tests.property.one_bucket.controller import NOW, Published, Round, next_table, settlement_of
from tests.property.one_bucket.packets import ends_at, opens_at_owner
from tests.property.one_bucket.states import (
    EARLIER,
    LANDED,
    NEW_CLUSTER,
    OCCUPIED,
    OLD_CLUSTER,
    OWNER,
    SERVERS,
    SETTLED,
    Connection,
    Found,
    Rules,
    Seen,
    State,
)

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
    settlement = settlement_of(state)
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
            found = next_table(rules, known)
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
        if not opens_at_owner(view, state, udp=rules.udp):
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
        if ends_at(view, state, udp=rules.udp, holds=holds) != OWNER:
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
