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

from collections import deque
from dataclasses import dataclass, field

from tests.property.one_bucket.events import events
from tests.property.one_bucket.packets import is_broken
from tests.property.one_bucket.states import OWNER, Rules, State


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
