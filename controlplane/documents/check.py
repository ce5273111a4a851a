"""The published documents ``cluster`` and ``table/<pool>`` as bytes (docs/documents.md).

Decoding is strict and safe against hostile bytes: it returns a valid object or raises
``DocumentError``, in bounded memory. Encoding makes the same checks, so that a controller cannot
publish a document that agents refuse.
"""

from __future__ import annotations

import numpy as np

from controlplane.documents.cluster import decode_cluster, encode_cluster
from controlplane.documents.fields import DocumentError
from controlplane.documents.table import check_arrays, decode_table, encode_table
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.objects import Cluster, Table

__all__ = [
    "DocumentError",
    "check_table",
    "decode_cluster",
    "decode_table",
    "encode_cluster",
    "encode_table",
]


def check_table(table: Table, cluster: Cluster, in_use_generation: int) -> None:
    """Refuse a table that must not replace the one in use (generation 0: none is).

    Raises ``DocumentError``: ``stale_generation``, ``missing_cluster`` (built on a cluster
    generation newer than ``cluster``: fetch that first), ``unknown_pool``, ``buckets_differ``,
    ``depth_differs``, ``unknown_index``, or what ``decode_table`` refuses.
    """
    where = f"table of {table.pool}"
    if table.generation <= in_use_generation:
        raise DocumentError(
            "stale_generation",
            f"{where}: generation {table.generation}, {in_use_generation} is in use",
        )
    if table.cluster_generation > cluster.generation:
        raise DocumentError(
            "missing_cluster",
            f"{where}: built on cluster generation {table.cluster_generation}, "
            f"this server has {cluster.generation}",
        )
    pool = cluster.pool(table.pool)
    if pool is None:
        raise DocumentError("unknown_pool", f"{where}: the cluster has no such pool")
    check_arrays(table)
    if table.buckets != pool.buckets:
        raise DocumentError("buckets_differ", f"{where}: {table.buckets}, not {pool.buckets}")
    if table.depth != pool.depth:
        raise DocumentError("depth_differs", f"{where}: {table.depth}, not {pool.depth}")
    known = np.zeros(MAX_SERVERS + 1, dtype=np.bool_)
    known[[0, *(server.index for server in cluster.servers)]] = True
    used = np.unique(table.chains)
    strange = used[~known[used]]
    if strange.size:
        raise DocumentError("unknown_index", f"{where}: no server has index {int(strange[0])}")
