"""Counts of a table that every round needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from controlplane.domain.objects import Table


@dataclass(frozen=True)
class TableFacts:
    """The counts of one table.

    ``named``: DIP indices in any chain. ``current``: DIP index -> buckets that the server is
    current for. ``in_transition``: buckets whose chain has more than one server. ``last_moved_at``:
    when a bucket last got another current server, in fleet seconds; 0: never.
    """

    named: frozenset[int] = frozenset()
    current: Mapping[int, int] = field(default_factory=dict)
    in_transition: int = 0
    last_moved_at: int = 0


def table_facts(table: Table) -> TableFacts:
    """Count a table."""
    named = np.flatnonzero(np.bincount(table.chains.ravel()))
    counts = np.bincount(table.chains[:, 0])
    current = {int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    longer = int(np.count_nonzero(table.chains[:, 1])) if table.depth > 1 else 0
    last_moved_at = int(table.moved_at.max(initial=0))
    return TableFacts(frozenset(int(i) for i in named) - {0}, current, longer, last_moved_at)
