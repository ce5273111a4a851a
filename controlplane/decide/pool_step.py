"""What a pool's next table may change: which servers serve, and whether buckets may move. Pure.

The builder (``controlplane.builder``) then decides which buckets move.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.decide.health import PoolHealth
from controlplane.decide.settlement import Settlement
from controlplane.domain.objects import IN_USE, SERVING, Cluster, ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.settings.models import ControlConfig

ROUND_SECONDS = 0.02
"""Least time between rounds: reports of a fleet arrive in bursts. Each generation needs a round."""


class Step(StrEnum):
    """What a round may do with a pool's table."""

    BUILD = "build"
    """The newest table is settled (or waits only for long silent agents): build the next."""
    DEATHS_ONLY = "deaths"
    """It is not settled, but a dead server is in it: remove that server, nothing else."""
    WAIT = "wait"
    """It is not settled: wait."""


@dataclass(frozen=True)
class PoolDecision:
    """The step and its reasons. ``states`` is by DIP index, for the builder."""

    step: Step
    states: Mapping[int, ServerState] = field(default_factory=dict)
    panic: bool = False
    gone_on_without: tuple[str, ...] = ()
    """Silent agents that joins and drains do not wait for any longer."""


def trusted_indices(settled: Cluster | None, facts: TableFacts) -> frozenset[int]:
    """Return the DIP indices that every forwarder knows; only these may be given buckets.

    They are the servers in use in the newest settled cluster document. A controller that has just
    started may not know that document; then they are the servers in the newest table.
    """
    if settled is not None:
        return frozenset(s.index for s in settled.servers if s.state in IN_USE)
    return facts.named


def members(
    config: ControlConfig, cluster: Cluster, pool: str, not_yet: Collection[str] = ()
) -> frozenset[str]:
    """Return the names of the pool's servers that are joining or active, without ``not_yet``."""
    return frozenset(
        server.name
        for server in cluster.servers
        if server.state in SERVING
        and server.name not in not_yet
        and (configured := config.server_named(server.name))
        and configured.serves(pool)
    )


def pool_states(
    cluster: Cluster,
    facts: TableFacts,
    serving: Collection[str],
    trusted: Collection[int],
    unhealthy: Collection[str],
    leaving: Collection[str] = (),
) -> dict[int, ServerState]:
    """Return every server's state as this pool's builder needs it, by DIP index.

    ``leaving``: servers that ask to leave, and that every server has as drained. Once they are
    current for no bucket, they leave the chains as a dead server does.
    """
    states = dict.fromkeys(facts.named, ServerState.DOWN)
    for server in cluster.servers:
        state = server.state
        if state in SERVING:
            if server.index not in trusted:
                state = ServerState.REGISTERED
            elif server.name not in serving or server.name in unhealthy:
                state = ServerState.DRAINING
        elif state is ServerState.DRAINING and server.name in leaving:
            state = state if facts.current.get(server.index) else ServerState.DOWN
        states[server.index] = state
    return states


def decide_pool(
    facts: TableFacts | None,
    settlement: Settlement | None,
    states: Mapping[int, ServerState],
    health: PoolHealth,
    *,
    silent: Collection[str] = (),
    withdrawing: bool = False,
) -> PoolDecision:
    """Return what a round may do with a pool's table (``facts`` ``None``: it has none yet).

    ``silent``: silent servers that count. Moves for load wait while they are silent, joins and
    drains wait for a limited time (``Settlement.passable``). ``withdrawing``: a server of the table
    withdraws its routes because it is cut off. Until it has left, the table stays.

    A first table is built over all servers, healthy or not: a server that was never checked counts
    as healthy, and a pool without a table serves no client.

    In a panic, checks are ignored (``states`` has no server that drains because of them), and the
    buckets that such servers have given up come back to them. That is as urgent as a join.
    """
    if facts is None or settlement is None:
        can_serve = any(state in SERVING for state in states.values())
        return PoolDecision(Step.BUILD if can_serve else Step.WAIT, states)
    urgent = health.panic or any(
        state is ServerState.JOINING or (state is ServerState.DRAINING and facts.current.get(index))
        for index, state in states.items()
    )
    may_build = not withdrawing
    if may_build and settlement.settled and (urgent or not silent):
        return PoolDecision(Step.BUILD, states, panic=health.panic)
    if may_build and settlement.passable and urgent:
        return PoolDecision(
            Step.BUILD, states, panic=health.panic, gone_on_without=settlement.silent
        )
    down = {index for index, state in states.items() if state is ServerState.DOWN}
    step = Step.DEATHS_ONLY if down & facts.named else Step.WAIT
    return PoolDecision(step, states, panic=health.panic)
