"""The ``table/<pool>`` document: chains and times as packed arrays, decoded in bounded memory."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from controlplane.documents.envelope import seal, unseal
from controlplane.documents.fields import DocumentError, Fields, Json, check_name, check_range
from controlplane.domain.bounds import (
    MAX_BUCKETS,
    MAX_DEPTH,
    MAX_GENERATION,
    MAX_SERVERS,
    MIN_BUCKETS,
)
from controlplane.domain.objects import Table, table_kind

MAX_BYTES, MAX_TOKENS = 24 << 20, 64
PREFIX = table_kind("")
KEYS = frozenset({"cluster_generation", "buckets", "depth", "chains", "moved_at"})


def encode_table(table: Table) -> bytes:
    """Return the ``table/<pool>`` document. Raises ``DocumentError`` if agents would refuse it."""
    check_name("pool", table.pool)
    check_arrays(table)
    body: Json = {
        "cluster_generation": table.cluster_generation,
        "buckets": table.buckets,
        "depth": table.depth,
        "chains": _pack(table.chains, "<u2"),
        "moved_at": _pack(table.moved_at, "<u4"),
    }
    return seal(table_kind(table.pool), table.generation, body)


def decode_table(data: bytes) -> Table:
    """Read a ``table/<pool>`` document. Its arrays are read-only.

    Raises ``DocumentError``: it is damaged, of a future version, or has an invalid chain.
    """
    kind, generation, body = unseal(data, MAX_BYTES, MAX_TOKENS)
    if not kind.startswith(PREFIX):
        raise DocumentError("wrong_kind", "it is not a table document")
    pool = kind.removeprefix(PREFIX)
    check_name("pool", pool)
    body.only(KEYS)
    buckets = body.integer("buckets", MIN_BUCKETS, MAX_BUCKETS)
    depth = body.integer("depth", 1, MAX_DEPTH)
    check_shape(f"table of {pool}", buckets, depth)
    chains = _unpack(body, "chains", "<u2", buckets * depth).astype(np.uint16)
    moved_at = _unpack(body, "moved_at", "<u4", buckets).astype(np.uint32)
    chains = chains.reshape(buckets, depth)
    chains.flags.writeable = False
    moved_at.flags.writeable = False
    table = Table(
        pool=pool,
        generation=generation,
        cluster_generation=body.integer("cluster_generation", 1, MAX_GENERATION),
        chains=chains,
        moved_at=moved_at,
    )
    check_arrays(table)
    return table


def _pack(array: NDArray[np.generic], dtype: str) -> str:
    raw = np.ascontiguousarray(array, dtype=dtype).tobytes()
    return base64.b64encode(zlib.compress(raw, 1)).decode("ascii")


def _unpack(body: Fields, key: str, dtype: str, count: int) -> NDArray[np.generic]:
    """Decompress exactly ``count`` numbers, never more than one byte beyond."""
    size = count * np.dtype(dtype).itemsize
    refusal = DocumentError("bad_array", f"{body.where}: {key!r} is not {count} packed numbers")
    try:
        packed = base64.b64decode(body.string(key).encode("ascii"), validate=True)
        inflater = zlib.decompressobj()
        raw = inflater.decompress(packed, size + 1)
    except (UnicodeEncodeError, binascii.Error, zlib.error) as error:
        raise refusal from error
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        raise refusal
    return np.frombuffer(raw, dtype=dtype)


def check_arrays(table: Table) -> None:
    """Refuse a table that is invalid for any cluster."""
    where = f"table of {table.pool}"
    check_range(f"{where}: generation", table.generation, 1, MAX_GENERATION)
    check_range(f"{where}: cluster generation", table.cluster_generation, 1, MAX_GENERATION)
    check_shape(where, table.buckets, table.depth)
    chains = table.chains
    if chains.dtype != np.uint16 or table.moved_at.dtype != np.uint32:
        raise DocumentError("bad_array", f"{where}: chains are uint16, times uint32")
    if table.moved_at.shape != (table.buckets,):
        raise DocumentError(
            "bad_array", f"{where}: the number of times is not the number of buckets"
        )
    check_chains(where, chains)


def check_chains(where: str, chains: NDArray[np.uint16]) -> None:
    """Refuse chains that are empty, have a hole, or repeat a server."""
    if not chains[:, 0].all():
        raise DocumentError("empty_bucket", f"{where}: a bucket has no server")
    if int(chains.max()) > MAX_SERVERS:
        raise DocumentError("out_of_range", f"{where}: an index over {MAX_SERVERS}")
    for later in range(1, chains.shape[1]):
        hop = chains[:, later]
        if ((chains[:, later - 1] == 0) & (hop != 0)).any():
            raise DocumentError("bad_chain", f"{where}: a chain has a hole")
        for earlier in range(later):
            if ((chains[:, earlier] == hop) & (hop != 0)).any():
                raise DocumentError("bad_chain", f"{where}: a chain repeats a server")


def check_shape(where: str, buckets: int, depth: int) -> None:
    """Refuse an invalid shape."""
    check_range(f"{where}: buckets", buckets, MIN_BUCKETS, MAX_BUCKETS)
    if buckets & (buckets - 1):
        raise DocumentError("bad_buckets", f"{where}: {buckets} buckets are not a power of two")
    check_range(f"{where}: depth", depth, 1, MAX_DEPTH)
