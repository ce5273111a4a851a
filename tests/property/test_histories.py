"""Connections lived through: servers a generation behind, both chain orders, moves and deaths.

Every bucket carries TCP connections and UDP flows. At each generation, connections are opened
through servers that have it and through servers that have the one before, and every older
connection sends a packet through both. A packet goes from hop to hop as docs/wire.md says; the
last hop takes it, whoever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from controlplane.builder import build
from controlplane.domain.objects import Table
from tests.property.builder_world import (
    DRAIN,
    S,
    Step,
    World,
    chains_of,
    events,
    histories,
    live,
    worlds,
)


@dataclass(frozen=True)
class Connection:
    """Opened in ``bucket``; ``owner`` has the socket."""

    protocol: str
    bucket: int
    owner: int


def visits(protocol: str, chain: tuple[int, ...]) -> tuple[int, ...]:
    """TCP: newest first. UDP: oldest first."""
    return chain if protocol == "tcp" else chain[::-1]


def opened_at(protocol: str, chain: tuple[int, ...]) -> int:
    """A SYN stays at the first hop. A new UDP flow ends at the last: no server has its socket."""
    order = visits(protocol, chain)
    return order[0] if protocol == "tcp" else order[-1]


def ends_at(connection: Connection, chain: tuple[int, ...]) -> int:
    """Where a packet of an open connection ends."""
    order = visits(connection.protocol, chain)
    return next((hop for hop in order[:-1] if hop == connection.owner), order[-1])


def views(step: Step) -> Iterator[list[tuple[int, ...]]]:
    """What servers may have in use: the newest table and, if that is safe, the one before.

    A server that still has a dead server in a bucket loses that bucket's packets until it has the
    new table; that is not the builder's doing, so such buckets count as updated.
    """
    new, old = chains_of(step.new), chains_of(step.old)
    yield new
    if step.old is not None:
        yield [b if all(map(step.known, b)) else a for b, a in zip(old, new, strict=True)]


def check_all_are_found(step: Step, connections: set[Connection]) -> None:
    for view in views(step):
        for connection in connections:
            assert ends_at(connection, view[connection.bucket]) == connection.owner


def open_everywhere(step: Step) -> Iterator[Connection]:
    """One connection of each protocol in every fifth bucket, through either table."""
    for view in views(step):
        for bucket in range(0, len(view), 5):
            for protocol in ("tcp", "udp"):
                yield Connection(protocol, bucket, opened_at(protocol, view[bucket]))


@given(worlds, histories)
@settings(max_examples=60, deadline=None)
def test_a_connection_is_found_for_as_long_as_its_chain_holds_its_server(
    world: World, history: Any
) -> None:
    # Deaths that overtake a publication are a known limit (docs/adr): here all is settled.
    calm = [(happenings, True) for happenings, _ in history]
    assume(world.depth > 1)
    connections: set[Connection] = set()
    last_current: dict[tuple[int, int], float] = {}
    for step in live(world, calm):
        now = step.request.now
        last_current.update({(b, c[0]): now for b, c in enumerate(chains_of(step.old)) if c})
        connections = {c for c in connections if step.known(c.owner)}
        held = chains_of(step.new)
        lost = {c for c in connections if c.owner not in held[c.bucket]}
        young = {c.bucket for c in lost if now - last_current[c.bucket, c.owner] < DRAIN}
        assert len(young) <= step.result.forced
        connections -= lost
        event(f"{'some' if connections else 'no'} connections live on")
        check_all_are_found(step, connections)
        connections |= set(open_everywhere(step))
        check_all_are_found(step, connections)


def test_moves_in_one_step_would_be_noticed() -> None:
    """The judge of the test above sees what it is meant to see."""
    new, old = (2, 1), (1,)
    connection = Connection("tcp", 0, opened_at("tcp", new))
    assert ends_at(connection, old) != connection.owner
    connection = Connection("tcp", 0, opened_at("tcp", (1, 2)))
    assert ends_at(connection, (1,)) == connection.owner


@given(worlds, st.lists(st.lists(events, max_size=2), min_size=1, max_size=6))
@settings(max_examples=60)
def test_a_death_that_overtakes_a_publication_moves_nothing_else(
    world: World, history: Any
) -> None:
    """Servers may have any of the tables since the last settled one: all agree on the living."""
    steps = list(live(world, [([], True), *((happenings, False) for happenings in history)]))
    for first, second in pairwise(steps):
        if second.request.settled:
            continue
        for before, after in zip(chains_of(first.new), chains_of(second.new), strict=True):
            if second.known(before[0]):
                assert after[0] == before[0]
            assert set(after) - {after[0]} <= set(before)


def test_a_connection_outlives_three_moves_at_depth_four_and_not_at_depth_two() -> None:
    for depth, survives in ((4, True), (2, False)):
        world = World(depth, {1: S.ACTIVE}, {1: 1.0}, forget=None, cap_factor=0.0)
        world.build(settled=True)
        for server in (2, 3, 4):
            world.states = {**dict.fromkeys(range(1, server), S.DRAINING), server: S.ACTIVE}
            world.shares[server] = 1.0
            for _ in range(2):
                world.now += 1
                assert world.build(settled=True) is not None
        chain = chains_of(world.table)[0]
        assert chain[0] == 4
        assert (1 in chain) is survives
        assert (ends_at(Connection("tcp", 0, 1), chain) == 1) is survives


def test_old_tables_are_never_written_to() -> None:
    chains = np.ones((256, 2), dtype=np.uint16)
    chains[:, 1] = 2
    moved_at = np.zeros(256, dtype=np.uint32)
    world = World(2, {1: S.DOWN, 2: S.ACTIVE, 3: S.ACTIVE}, {}, forget=10.0, cap_factor=1.0)
    old = Table("p", 3, 1, chains, moved_at)
    kept = replace(old, chains=chains.copy(), moved_at=moved_at.copy())
    world.table = old
    assert build(old, world.request(settled=True)).table is not None
    assert (old.chains == kept.chains).all()
    assert (old.moved_at == kept.moved_at).all()
