"""The names that servers, pools, keys and kinds may have in a store.

Names come from configuration files, from requests and from other machines, and become file names.
Every store checks them where they enter it.
"""

from __future__ import annotations

from controlplane.domain.bounds import KEY_BYTES, MAX_GENERATION
from controlplane.domain.controller_state import CONTROLLER
from controlplane.domain.names import is_name, shown
from controlplane.domain.objects import CLUSTER, table_kind
from controlplane.store.contract import StoreCorrupt

_TABLE_PREFIX = table_kind("")


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it may name a ``what`` (server, pool, key). Raises ``StoreCorrupt``."""
    if isinstance(name, str) and is_name(name):
        return name
    raise StoreCorrupt(
        f"{shown(name)} cannot name a {what}: use 1 to 63 of a-z 0-9 . _ -, "
        "the first a letter or a digit"
    )


def check_key(key_id: str, key: bytes) -> bytes:
    """Return ``key`` if it has the right length. Raises ``StoreCorrupt``."""
    if len(key) != KEY_BYTES:
        raise StoreCorrupt(f"key {key_id} has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def check_kind(kind: object) -> str:
    """Return ``kind`` if it is ``cluster`` or ``table/<pool>``. Raises ``StoreCorrupt``."""
    if kind == CLUSTER:
        return CLUSTER
    if isinstance(kind, str) and kind.startswith(_TABLE_PREFIX):
        check_name(kind[len(_TABLE_PREFIX) :], "pool")
        return kind
    raise StoreCorrupt(f"{shown(kind)} is not a kind of document: use cluster or table/POOL")


def check_document(kind: object) -> str:
    """Return ``kind`` if a store can hold it: as ``check_kind``, or ``controller``.

    Raises ``StoreCorrupt``.
    """
    return CONTROLLER if kind == CONTROLLER else check_kind(kind)


def check_generation(generation: object) -> int:
    """Return ``generation`` if a document can have it. Raises ``StoreCorrupt``."""
    if type(generation) is int and 0 < generation <= MAX_GENERATION:
        return generation
    raise StoreCorrupt(f"{shown(generation)} is not a generation: use a whole number from 1 on")


def kind_to_stem(kind: str) -> str:
    """Return the file name, without suffix, that stands for a kind: ``table.web``."""
    return check_document(kind).replace("/", ".", 1)


def stem_to_kind(stem: str) -> str | None:
    """Return the kind that a file name stands for, ``None`` for an unrelated file.

    ``controller`` counts as unrelated: agents neither wait for that document nor use it.
    """
    if stem == CLUSTER:
        return CLUSTER
    head, dot, pool = stem.partition(".")
    if dot and table_kind(pool) == f"{head}/{pool}" and is_name(pool):
        return table_kind(pool)
    return None
