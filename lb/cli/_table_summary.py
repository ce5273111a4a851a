"""Summary of a table: each server's buckets, and the buckets in transition. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.domain.objects import Cluster, Table


@dataclass(frozen=True)
class Row:
    """One server's part of a table; ``later`` counts the buckets in which it is a later hop."""

    server: str
    dip: str
    state: str
    current: int
    share: float
    later: int


@dataclass(frozen=True)
class TableSummary:
    """A pool's table. A bucket whose chain has more than one server is in transition.

    ``lengths`` counts the buckets with chains of 1, of 2, ... of ``depth`` servers.
    """

    pool: str
    generation: int
    cluster_generation: int
    buckets: int
    depth: int
    transitions: int
    lengths: tuple[int, ...]
    empty: int
    last_moved_at: int
    rows: tuple[Row, ...]


def summarise(table: Table, cluster: Cluster) -> TableSummary:
    """Summarise a table: a row for each known server, and for each index without a server."""
    size = max((int(table.chains.max(initial=0)), *(s.index for s in cluster.servers))) + 1
    current = np.bincount(table.chains[:, 0], minlength=size)
    later = np.bincount(table.chains[:, 1:].ravel(), minlength=size)
    lengths = np.bincount((table.chains != 0).sum(axis=1), minlength=table.depth + 1)[1:]
    names = {server.index: server for server in cluster.servers}
    rows: list[Row] = []
    for index in range(1, size):
        server = names.get(index)
        if server is None and not current[index] and not later[index]:
            continue
        rows.append(
            Row(
                server=server.name if server else f"index {index}",
                dip=str(server.dip) if server else "",
                state=server.state.value if server else "removed",
                current=int(current[index]),
                share=float(current[index] / table.buckets),
                later=int(later[index]),
            )
        )
    return TableSummary(
        pool=table.pool,
        generation=table.generation,
        cluster_generation=table.cluster_generation,
        buckets=table.buckets,
        depth=table.depth,
        transitions=int(lengths[1:].sum()),
        lengths=tuple(int(count) for count in lengths),
        empty=int(current[0]),
        last_moved_at=int(table.moved_at.max(initial=0)),
        rows=tuple(sorted(rows, key=lambda row: row.server)),
    )
