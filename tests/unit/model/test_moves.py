"""All histories of one bucket: two-step moves break nothing, one-step moves do.

A history is the sequence of chains that generations 0, 1, 2... publish for one bucket. A generation
is published when every server has the one before, so at any moment a server has loaded the latest
or the one before it. A client opens a flow through one server, at some moment; later the router
moves it to another server, which may have the same generation, a newer or an older one. The flow's
next packet must find the socket. A flow counts for as long as its server stays in the chain:
pushing a server out is another promise's business.

A UDP flow is also tried without a connected socket: its next datagram comes before the application
has made one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import pytest

from tests.model import Memory, Outcome, SameSocket, Server, SocketState, SocketTable, trace
from tests.model.frames import ethernet, tcp_packet, udp_packet
from tests.packets.world import CLIENT, DNS, HTTP, VIP, config, dip, flow

Chain = tuple[int, ...]
History = tuple[Chain, ...]
Step = Callable[[Chain, int, int], Chain]

SERVERS = 5
GENERATIONS = 5
PROTOCOLS = {6: flow(HTTP), 17: flow(DNS)}


def two_step(chain: Chain, server: int, depth: int) -> Chain:
    """One generation of a move: a newcomer goes behind the current server, a later hop forward."""
    if server in chain:
        return (server, *(other for other in chain if other != server))
    return (chain[0], server, *chain[1:])[:depth]


def one_step(chain: Chain, server: int, depth: int) -> Chain:
    """The move that a table of plain chains would make: a newcomer is current at once."""
    return (server, *(other for other in chain if other != server))[:depth]


def histories(step: Step, depth: int) -> Iterator[History]:
    """Every sequence of moves from a bucket at rest at server 1, one generation after another."""

    def after(history: History) -> Iterator[History]:
        if len(history) == GENERATIONS:
            yield history
            return
        latest = history[-1]
        for server in range(1, SERVERS + 1):
            if server != latest[0]:
                yield from after((*history, step(latest, server, depth)))

    return after(((1,),))


@cache
def visit(protocol: int, chain: Chain, at: int, owner: int | None) -> tuple[Outcome, int]:
    """What becomes of a flow's packet, its first one if nobody owns the flow yet, and where."""
    fresh = owner is None
    the_flow = PROTOCOLS[protocol]
    if protocol == 6:
        flags = 0x02 if fresh else 0x10
        frame = ethernet(tcp_packet(CLIENT, the_flow.source_port, VIP, 80, flags=flags))
        known, otherwise = SocketState.KNOWN, SocketState.LISTEN
    else:
        frame = ethernet(udp_packet(CLIENT, the_flow.source_port, VIP, 53))
        known, otherwise = SocketState.UDP_CONNECTED, SocketState.UDP_UNCONNECTED
    fleet = {
        dip(number): Server(
            config(number, chain, servers=SERVERS),
            SocketTable({the_flow: known} if number == owner else {}, otherwise),
        )
        for number in range(1, SERVERS + 1)
    }
    path = trace(frame, dip(at), fleet)
    return path.outcome, path.last_server.packed[-1]


@cache
def opens_at(protocol: int, chain: Chain) -> int:
    """The server that a new flow opens at, the same wherever the router sends it."""
    ends = {visit(protocol, chain, at, None) for at in range(1, SERVERS + 1)}
    ((outcome, owner),) = ends
    assert outcome is Outcome.OPENED
    return owner


@cache
def survives(protocol: int, chain: Chain, owner: int) -> bool:
    """Whether a packet of the owner's flow gets to the owner, wherever the router sends it."""
    ends = {visit(protocol, chain, at, owner) for at in range(1, SERVERS + 1)}
    return ends == {(Outcome.DELIVERED, owner)}


def _loaded(published: int, lag: int) -> range:
    """The generations that servers can have loaded while one is the latest."""
    return range(max(0, published - lag), published + 1)


def broken_flows(protocol: int, history: History, *, lag: int = 1) -> list[tuple[int, int]]:
    """Generations of the server that opened a flow and of the one that broke it."""
    broken = set()
    for published in range(len(history)):
        for opened in _loaded(published, lag):
            owner = opens_at(protocol, history[opened])
            for later in range(published, len(history)):
                if owner not in history[later]:
                    break
                broken |= {
                    (opened, loaded)
                    for loaded in _loaded(later, lag)
                    if not survives(protocol, history[loaded], owner)
                }
    return sorted(broken)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["TCP", "UDP"])
def test_two_step_moves_break_nothing(protocol: int, depth: int) -> None:
    seen = 0
    for history in histories(two_step, depth):
        seen += 1
        assert broken_flows(protocol, history) == [], history
    assert seen == (SERVERS - 1) ** (GENERATIONS - 1)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["TCP", "UDP"])
def test_every_one_step_move_to_a_newcomer_breaks_something(protocol: int, depth: int) -> None:
    for history in histories(one_step, depth):
        assert broken_flows(protocol, history) != [], history


@cache
def pairs_of_datagrams(first: Chain, second: Chain, *, forgetful: bool) -> set[tuple[int, int]]:
    """Where two datagrams of a new flow end, each sent through a server with one of these chains.

    No server has a connected socket for the flow. ``forgetful``: nor remembers it.
    """
    frame = ethernet(udp_packet(CLIENT, PROTOCOLS[17].source_port, VIP, 53))
    ends = set()
    for first_at in range(1, SERVERS + 1):
        for second_at in range(1, SERVERS + 1):
            memories = {number: Memory() for number in range(1, SERVERS + 1)}
            owners = []
            for chain, at in ((first, first_at), (second, second_at)):
                fleet = {
                    dip(number): Server(
                        config(number, chain, servers=SERVERS),
                        SameSocket(SocketState.UDP_UNCONNECTED),
                        Memory() if forgetful else memory,
                    )
                    for number, memory in memories.items()
                }
                owners.append(trace(frame, dip(at), fleet).last_server.packed[-1])
            ends.add((owners[0], owners[1]))
    return ends


def neighbours(depth: int) -> set[tuple[Chain, Chain]]:
    """The chains that two servers can have at the same time, in either order, and equal ones."""
    found = set()
    for history in histories(two_step, depth):
        for older, newer in pairwise(history):
            found |= {(older, older), (older, newer), (newer, older)}
    return found


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_flow_whose_application_is_slow_ends_at_one_server(depth: int) -> None:
    for first, second in neighbours(depth):
        ends = pairs_of_datagrams(first, second, forgetful=False)
        assert {a == b for a, b in ends} == {True}, (first, second)


def test_without_a_memory_a_swap_splits_a_flow_whose_application_is_slow() -> None:
    for first, second in (((1, 2), (2, 1)), ((2, 1), (1, 2))):
        ends = pairs_of_datagrams(first, second, forgetful=True)
        assert ends == {(first[0], second[0])}


def test_the_flow_that_a_one_step_move_breaks() -> None:
    """Opened through a server with the new table, then sent to one with the old table: a reset."""
    history = ((1,), (2, 1))
    assert opens_at(6, history[1]) == 2
    assert visit(6, history[0], 3, 2) == (Outcome.REFUSED, 1)
    assert broken_flows(6, history) == [(1, 0)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["TCP", "UDP"])
def test_two_steps_are_not_enough_for_a_server_two_generations_behind(protocol: int) -> None:
    history = ((1,), (1, 2), (2, 1))
    assert broken_flows(protocol, history, lag=1) == []
    assert broken_flows(protocol, history, lag=2) == [(2, 0)]


def test_a_table_without_chains_breaks_every_old_flow() -> None:
    assert not survives(6, (2,), 1)
    assert visit(6, (2,), 3, 1) == (Outcome.REFUSED, 2)
