"""A controller's decisions as JSON.

Types are strict, unknown keys are skipped (a newer controller may write more), sizes are bounded.
Texts that people read on a terminal are cut and cleaned: some come from agents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from controlplane.domain.decisions import (
    Decisions,
    Missing,
    PoolDecisions,
    Proved,
    Reason,
    ServerBuckets,
)
from controlplane.domain.names import printable, shown
from controlplane.store.contract import StoreCorrupt
from controlplane.store.names import check_name
from controlplane.store.reports import parse_object

MAX_DECISIONS_BYTES = 64 << 20
MAX_TEXT = 400
MAX_TEXTS = 64
MAX_COUNT = (1 << 63) - 1
MAX_PROVED = 1024
"""Pairs of servers."""

Value = TypeVar("Value")


def encode_decisions(decisions: Decisions) -> bytes:
    """Return decisions as UTF-8 JSON. Raises ``StoreCorrupt``: they are too large."""
    decisions = replace(decisions, proved=decisions.proved[:MAX_PROVED])
    data = json.dumps(asdict(decisions), ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_DECISIONS_BYTES:
        raise StoreCorrupt(f"decisions of {len(data)} bytes are over {MAX_DECISIONS_BYTES}")
    return data


def decode_decisions(data: bytes) -> Decisions:
    """Return the decisions that ``data`` holds. Raises ``StoreCorrupt`` with the key at fault."""
    content = parse_object(data, "the decisions")
    return Decisions(
        at=_number(content, "at"),
        held=_by_name(content, "held", _texts),
        refusing=_by_name({"refusing": {}, **content}, "refusing", _texts),
        cut_off=_by_name({"cut_off": {}, **content}, "cut_off", _text),
        pools=_by_name(content, "pools", _pool),
        proved=tuple(map(_proved, _list(content, "proved"))),
    )


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_PROVED:
        raise StoreCorrupt(f"decisions: {shown(key)} must be a list of at most {MAX_PROVED}")
    return value


def _proved(content: object) -> Proved:
    if not isinstance(content, dict):
        raise StoreCorrupt("decisions: proved must be a list of objects")
    broken_by, held_by = (check_name(content.get(k), "server") for k in ("broken_by", "held_by"))
    return Proved(broken_by, held_by, _count(content, "count"))


def _pool(content: Mapping[str, Any], name: str) -> PoolDecisions:
    pool = _object(content, name)
    return PoolDecisions(
        generation=_count(pool, "generation"),
        waiting_for=_texts(pool, "waiting_for"),
        panic=pool.get("panic") is True,
        shares=_by_name(pool, "shares", _number),
        caps=_by_name(pool, "caps", _count),
        servers=_by_name(pool, "servers", _server),
        forced=None if pool.get("forced") is None else _count(pool, "forced"),
        load_unknown=_texts({"load_unknown": [], **pool}, "load_unknown"),
    )


def _server(content: Mapping[str, Any], name: str) -> ServerBuckets:
    server = _object(content, name)
    missing = server.get("missing")
    if not isinstance(missing, list) or len(missing) > MAX_TEXTS:
        raise StoreCorrupt(f"decisions: missing must be a list of at most {MAX_TEXTS}")
    return ServerBuckets(
        _count(server, "buckets"),
        _count(server, "part"),
        tuple(_missing(one) for one in missing),
        _text({"keeps": "", **server}, "keeps"),
    )


def _missing(content: object) -> Missing:
    if not isinstance(content, dict) or content.get("reason") not in list(Reason):
        raise StoreCorrupt("decisions: missing must have a known reason")
    return Missing(Reason(content["reason"]), _count(content, "buckets"), _text(content, "detail"))


def _by_name(
    content: Mapping[str, Any], key: str, read: Callable[[Mapping[str, Any], str], Value]
) -> dict[str, Value]:
    values = _object(content, key)
    return {check_name(name, "server"): read(values, name) for name in values}


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise StoreCorrupt(f"decisions: {shown(key)} must be an object")
    return value


def _texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise StoreCorrupt(f"decisions: {shown(key)} must be a list of texts")
    return tuple(printable(text, MAX_TEXT) for text in value[:MAX_TEXTS])


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise StoreCorrupt(f"decisions: {shown(key)} must be a text")
    return printable(value, MAX_TEXT)


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise StoreCorrupt(f"decisions: {shown(key)} must be a whole number from 0 on")


def _number(content: Mapping[str, Any], key: str) -> float:
    value: Any = content.get(key)
    if type(value) in (int, float) and 0 <= value <= MAX_COUNT:  # false for NaN
        return float(value)
    raise StoreCorrupt(f"decisions: {shown(key)} must be a finite number from 0 on")
