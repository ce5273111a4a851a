"""A silent agent whose acknowledgement counts: what waits for it although all is settled."""

from __future__ import annotations

import pytest

from controlplane.decide.health import PoolHealth
from controlplane.decide.pool_step import Step, decide_pool
from controlplane.decide.settlement import Settlement
from controlplane.domain.objects import ServerState
from controlplane.domain.table_facts import TableFacts

ACTIVE, JOINING, DRAINING, DOWN = (
    ServerState.ACTIVE,
    ServerState.JOINING,
    ServerState.DRAINING,
    ServerState.DOWN,
)
SETTLED = Settlement("table/web", 3)
FACTS = TableFacts(named=frozenset({1, 2, 3}), current={1: 128, 2: 128})


@pytest.mark.parametrize(
    ("states", "step"),
    [
        ({1: ACTIVE, 2: ACTIVE, 3: ACTIVE}, Step.WAIT),
        ({1: ACTIVE, 2: ACTIVE, 3: DRAINING}, Step.WAIT),
        ({1: ACTIVE, 2: DRAINING, 3: ACTIVE}, Step.BUILD),
        ({1: ACTIVE, 2: ACTIVE, 3: JOINING}, Step.BUILD),
        ({1: ACTIVE, 2: ACTIVE, 3: DOWN}, Step.DEATHS_ONLY),
    ],
    ids=["load", "already drained", "drain", "join", "death"],
)
def test_moves_for_load_wait_for_a_silent_agent_and_nothing_else_does(
    states: dict[int, ServerState], step: Step
) -> None:
    assert decide_pool(FACTS, SETTLED, states, PoolHealth(), silent={"s2"}).step is step
    heard = decide_pool(FACTS, SETTLED, states, PoolHealth())
    assert heard.step is Step.BUILD
