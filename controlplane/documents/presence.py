"""Presence in a report: where a server's connections are, by pool and bucket.

An agent dumps its sockets again and again, and reports what it found (docs/documents.md). No
secret is in it: of a pool's key it has a digest. Decoding is safe against hostile bytes, in bounded
memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.documents.fields import DocumentError, Fields, Json, check_name, number, optional
from controlplane.domain.bounds import MAX_BUCKETS, MAX_GENERATION, MAX_POOLS, MIN_BUCKETS

KEY_ID_BYTES = 8
LONGEST_AGE_SECONDS = float(1 << 40)
MOST_CONNECTIONS = 1 << 32
MOST_POOL_BUCKETS = 1 << 24
"""Buckets of all pools of a dump: 16 MiB, once decoded."""
COMPRESSION = 1


@dataclass(frozen=True)
class Mark:
    """A moment that the leading controller named. ``epoch`` is of its term, ``number`` rises."""

    epoch: int
    number: int


@dataclass(frozen=True, eq=False)
class PoolPresence:
    """A server's connections in one pool.

    ``key_id``: see ``key_id_of``. ``occupied``: whether each bucket has a connection, bool of shape
    ``(buckets,)``.
    """

    key_id: str
    buckets: int
    connections: int
    occupied: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Dump:
    """What one dump of a server's sockets found. A pool that is missing is unknown, not empty.

    ``number`` rises by one a dump since the agent's start. ``mark``: the newest that the agent had
    before the dump began. ``cluster_generation``: of the cluster document by which sockets were
    sorted into pools. ``cookies_age``: when it began, seconds since the kernel last sent a SYN
    cookie, as far as the agent knows; ``None``: none in all the time that it has looked, at least
    two minutes.
    """

    number: int
    mark: Mark | None
    cluster_generation: int
    cookies_age: float | None
    pools: Mapping[str, PoolPresence]


def key_id_of(key: bytes) -> str:
    """Return a short digest of a pool's key, which names it and does not reveal it."""
    return hashlib.sha256(key).hexdigest()[: 2 * KEY_ID_BYTES]


def encode_presence(dump: Dump, most_bytes: int) -> dict[str, Any]:
    """Return a dump as values for JSON. Pools that do not fit are left out, the largest first."""
    pools = {name: _pool_body(pool) for name, pool in dump.pools.items()}
    left = most_bytes
    kept = {}
    for name, body in sorted(pools.items(), key=lambda item: (len(item[1]["occupied"]), item[0])):
        left -= len(name) + len(body["occupied"]) + 100
        if left >= 0:
            kept[name] = body
    return {
        "number": dump.number,
        "mark": None if dump.mark is None else [dump.mark.epoch, dump.mark.number],
        "cluster_generation": dump.cluster_generation,
        "cookies_age": dump.cookies_age,
        "pools": kept,
    }


def _pool_body(pool: PoolPresence) -> dict[str, Any]:
    packed = zlib.compress(np.packbits(pool.occupied).tobytes(), COMPRESSION)
    return {
        "key_id": pool.key_id,
        "buckets": pool.buckets,
        "connections": pool.connections,
        "occupied": base64.b64encode(packed).decode(),
    }


def decode_presence(content: object) -> Dump:
    """Read a dump. Unknown keys are skipped: a newer agent may report more.

    Raises ``DocumentError``: it is damaged, or larger than what a server can have.
    """
    if not isinstance(content, dict):
        raise DocumentError("wrong_type", "presence is not an object")
    fields = Fields("presence", content)
    pools = fields.mapping("pools")
    if len(pools.values) > MAX_POOLS:
        raise DocumentError("too_large", f"presence.pools has over {MAX_POOLS} entries")
    total = sum(_buckets(pools.mapping(name)) for name in pools.values)
    if total > MOST_POOL_BUCKETS:
        raise DocumentError("too_large", f"presence.pools have over {MOST_POOL_BUCKETS} buckets")
    if "cookies_age" not in content:  # null is an answer, and not the one to assume
        raise DocumentError("missing_key", "presence does not have 'cookies_age'")
    found = fields.read({"cookies_age": optional(number(0.0, LONGEST_AGE_SECONDS))})
    return Dump(
        number=fields.integer("number", 1, MAX_GENERATION),
        mark=_mark(fields),
        cluster_generation=fields.integer("cluster_generation", 1, MAX_GENERATION),
        cookies_age=found["cookies_age"],
        pools={name: _pool(pools, name) for name in pools.values},
    )


def _mark(fields: Fields) -> Mark | None:
    if fields.values.get("mark") is None:
        return None
    values = fields.sequence("mark", 2)
    if len(values) != len(vars(Mark(0, 0))):
        raise DocumentError("bad_array", "presence: 'mark' is not an epoch and a number")
    given: Json = dict(zip(("epoch", "number"), values, strict=True))
    pair = Fields("presence.mark", given)
    return Mark(pair.integer("epoch", 0, MAX_GENERATION), pair.integer("number", 0, MAX_GENERATION))


def _buckets(fields: Fields) -> int:
    buckets = fields.integer("buckets", MIN_BUCKETS, MAX_BUCKETS)
    if buckets & (buckets - 1):
        raise DocumentError(
            "out_of_range", f"{fields.where}: 'buckets' is {buckets}, not a power of two"
        )
    return buckets


def _pool(pools: Fields, name: str) -> PoolPresence:
    check_name(pools.where, name)
    fields = pools.mapping(name)
    buckets = _buckets(fields)
    key_id = fields.string("key_id")
    if len(key_id) != 2 * KEY_ID_BYTES or not set(key_id) <= set("0123456789abcdef"):
        raise DocumentError("out_of_range", f"{fields.where}: 'key_id' is not a digest of a key")
    occupied = _bitmap(fields, buckets)
    connections = fields.integer("connections", 0, MOST_CONNECTIONS)
    return PoolPresence(key_id, buckets, connections, occupied)


def _bitmap(fields: Fields, buckets: int) -> NDArray[np.bool_]:
    """Return the bitmap of a pool, decompressed to no more than its length."""
    where, wanted = f"{fields.where}: 'occupied'", buckets // 8
    try:
        packed = base64.b64decode(fields.string("occupied"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError("bad_array", f"{where} is not base64: {error}") from error
    reader = zlib.decompressobj()
    try:
        bits = reader.decompress(packed, wanted + 1)
    except zlib.error as error:
        raise DocumentError("bad_array", f"{where} is not zlib: {error}") from error
    if len(bits) != wanted or not reader.eof or reader.unused_data:
        raise DocumentError(
            "bad_array", f"{where} is not a bitmap of {buckets} buckets, {wanted} bytes"
        )
    return np.unpackbits(np.frombuffer(bits, np.uint8)).view(np.bool_)
