"""A drain request as JSON, in the file whose existence is the request."""

from __future__ import annotations

from controlplane.domain.controller_state import MAX_REQUEST_TEXT, DrainRequest
from controlplane.domain.names import printable
from controlplane.store.contract import StoreCorrupt
from controlplane.store.reports import parse_object

MAX_AT = float(1 << 40)


def decode_request(data: bytes) -> DrainRequest:
    """Return the request; empty: one of an earlier version. Raises ``StoreCorrupt``."""
    if not data:
        return DrainRequest()
    content = parse_object(data, "a drain request")
    by, at, reason = (content.get(key) for key in ("by", "at", "reason"))
    if not isinstance(by, str) or not isinstance(reason, str):
        raise StoreCorrupt("a drain request has who and why as texts")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= MAX_AT:
        raise StoreCorrupt("a drain request has when in Unix seconds")
    return DrainRequest(
        printable(by, MAX_REQUEST_TEXT),
        float(at),
        printable(reason, MAX_REQUEST_TEXT),
        force=content.get("force") is True,
    )
