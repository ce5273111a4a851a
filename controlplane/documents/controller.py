"""Encoding and decoding the ``controller`` document: what a successor goes on from.

Unknown keys are tolerated: no packet depends on this document, and without a key that a newer
controller wrote, an older one still has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from controlplane.documents.envelope import seal, unseal
from controlplane.documents.fields import DocumentError, Fields, Json, check_name, number
from controlplane.domain.bounds import MAX_POOLS, MAX_SERVERS
from controlplane.domain.controller_state import (
    CONTROLLER,
    MAX_FLEET_SECONDS,
    MAX_REQUEST_TEXT,
    MAX_SHARE,
    MIN_SHARE,
    ControllerState,
    DrainRequest,
)
from controlplane.domain.names import printable

MAX_BYTES, MAX_TOKENS = 8 << 20, 1 << 20
LATEST = float(1 << 40)
"""Unix seconds."""

Value = TypeVar("Value")


def encode_controller(state: ControllerState, generation: int) -> bytes:
    """Return the ``controller`` document. Raises ``DocumentError``: it is invalid, or too large."""
    body: Json = {
        "fleet_seconds": state.fleet_seconds,
        "slow_start": dict(state.slow_start),
        "shares": {pool: dict(shares) for pool, shares in state.shares.items()},
        "requests": {name: vars(request) for name, request in state.requests.items()},
    }
    data = seal(CONTROLLER, generation, body)
    decode_controller(data)
    return data


def controller_generation(data: bytes) -> int:
    """Return the generation of a ``controller`` document. Raises ``DocumentError``."""
    return unseal(data, MAX_BYTES, MAX_TOKENS)[1]


def decode_controller(data: bytes) -> ControllerState:
    """Read a ``controller`` document.

    Raises ``DocumentError``: it is damaged, of a future version, or has an impossible value.
    """
    kind, _, body = unseal(data, MAX_BYTES, MAX_TOKENS)
    if kind != CONTROLLER:
        raise DocumentError("wrong_kind", "it is not the controller document")
    return ControllerState(
        fleet_seconds=_number(body, "fleet_seconds", MAX_FLEET_SECONDS),
        slow_start=_by_name(body.mapping("slow_start"), MAX_SERVERS, _progress),
        shares=_by_name(body.mapping("shares"), MAX_POOLS, _shares),
        requests=_by_name(body.mapping("requests"), MAX_SERVERS, _request),
    )


def _by_name(
    fields: Fields, most: int, read: Callable[[Fields, str], Value]
) -> Mapping[str, Value]:
    if len(fields.values) > most:
        raise DocumentError("too_large", f"{fields.where} has over {most} entries")
    for name in fields.values:
        check_name(fields.where, name)
    return {name: read(fields, name) for name in fields.values}


def _progress(fields: Fields, name: str) -> float:
    return _number(fields, name, 1.0)


def _shares(fields: Fields, pool: str) -> Mapping[str, float]:
    return _by_name(fields.mapping(pool), MAX_SERVERS, _share)


def _share(fields: Fields, name: str) -> float:
    return _number(fields, name, MAX_SHARE, MIN_SHARE)


def _request(fields: Fields, name: str) -> DrainRequest:
    given = fields.mapping(name)
    return DrainRequest(
        by=printable(given.string("by"), MAX_REQUEST_TEXT),
        at=_number(given, "at", LATEST),
        reason=printable(given.string("reason"), MAX_REQUEST_TEXT),
        force=given.values.get("force") is True,
    )


def _number(fields: Fields, key: str, most: float, least: float = 0.0) -> float:
    value: float = fields.read({key: number(least, most)})[key]
    return value
