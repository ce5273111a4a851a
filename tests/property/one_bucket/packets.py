"""Where a packet ends, and when a connection is broken."""

from __future__ import annotations

from tests.property.one_bucket.states import OWNER, Chain, Rules, State


def ends_at(chain: Chain, state: State, *, udp: bool, holds: bool) -> int:
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


def opens_at_owner(chain: Chain, state: State, *, udp: bool) -> bool:
    """Whether a new connection along this chain is server 1's."""
    if udp:
        return ends_at(chain, state, udp=True, holds=False) == OWNER
    return chain[:1] == (OWNER,)


def is_broken(state: State, rules: Rules) -> bool:
    """Whether a packet of the connection, sent now, ends at a server that does not know it."""
    connection = state.connection
    if not connection or connection.kind == "syn":
        return False
    if connection.kind == "late" and not connection.fresh:
        return False  # a known limit: an application that is slower than a settled generation
    for server in state.living:
        end = ends_at(state.views[server - 1], state, udp=rules.udp, holds=True)
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
