"""What happened to servers as JSON. Types are strict, sizes are bounded, unknown keys skipped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from controlplane.domain.controller_state import MAX_REQUEST_TEXT
from controlplane.domain.history import MOST_EVENTS, Event, EventKind, Foreseen, Happened
from controlplane.domain.names import printable, shown
from controlplane.store.contract import StoreCorrupt
from controlplane.store.names import check_name
from controlplane.store.reports import parse_object

MAX_HISTORY_BYTES = 1 << 20
MAX_FORESEEN_BYTES = 4 << 10
MAX_COUNT = (1 << 63) - 1


def encode_history(events: Sequence[Event]) -> bytes:
    """Return the newest events as UTF-8 JSON."""
    values = [asdict(event) for event in events[-MOST_EVENTS:]]
    return json.dumps({"events": values}, ensure_ascii=False, separators=(",", ":")).encode()


def decode_history(data: bytes) -> tuple[Event, ...]:
    """Return the events that ``data`` has. Raises ``StoreCorrupt`` with the key at fault."""
    events = parse_object(data, "the history").get("events")
    if not isinstance(events, list) or len(events) > MOST_EVENTS:
        raise StoreCorrupt(f"the history must have a list of at most {MOST_EVENTS} events")
    return tuple(_event(_object(event, "an event")) for event in events)


def encode_foreseen(foreseen: Foreseen) -> bytes:
    """Return what is foreseen as UTF-8 JSON."""
    return json.dumps(asdict(foreseen)).encode()


def decode_foreseen(data: bytes) -> Foreseen:
    """Return what ``data`` has. Raises ``StoreCorrupt`` with the key at fault."""
    return _foreseen(parse_object(data, "what is foreseen"))


def _event(content: Mapping[str, Any]) -> Event:
    foreseen = content.get("foreseen")
    return Event(
        server=check_name(_text(content, "server"), "server"),
        kind=_kind(content),
        at=_number(content, "at"),
        began=_number(content, "began"),
        by=_text(content, "by"),
        reason=_text(content, "reason"),
        foreseen=None if foreseen is None else _foreseen(_object(foreseen, "foreseen")),
        happened=_happened(_object(content.get("happened"), "happened")),
        strays_before=_count(content, "strays_before"),
        ended=None if content.get("ended") is None else _number(content, "ended"),
        over=content.get("over") is True,
    )


def _foreseen(content: Mapping[str, Any]) -> Foreseen:
    return Foreseen(
        _kind(content),
        _count(content, "buckets"),
        _count(content, "forced"),
        _unknown_or_count(content, "lost"),
        _number(content, "seconds"),
    )


def _happened(content: Mapping[str, Any]) -> Happened:
    return Happened(
        _count(content, "buckets"),
        _count(content, "forced"),
        _unknown_or_count(content, "lost"),
        _count(content, "strays"),
        _number(content, "seconds"),
    )


def _kind(content: Mapping[str, Any]) -> EventKind:
    value = content.get("kind")
    if value not in list(EventKind):
        raise StoreCorrupt(f"history: {shown(value)} is not a kind of event")
    return EventKind(value)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise StoreCorrupt(f"history: {what} must be an object")
    return value


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise StoreCorrupt(f"history: {key} must be a text")
    return printable(value, MAX_REQUEST_TEXT)


def _unknown_or_count(content: Mapping[str, Any], key: str) -> int | None:
    return None if content.get(key) is None else _count(content, key)


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise StoreCorrupt(f"history: {key} must be a whole number from 0 on")


def _number(content: Mapping[str, Any], key: str) -> float:
    value: Any = content.get(key)
    if type(value) in (int, float) and 0 <= value <= MAX_COUNT:  # false for NaN
        return float(value)
    raise StoreCorrupt(f"history: {key} must be a finite number from 0 on")
