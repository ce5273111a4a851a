"""The protocol of the ``http:`` store.

======  ==================================  =======================  ==============================
method  path                                request                  answer
======  ==================================  =======================  ==============================
GET     /v1/kinds                                                    ``{"kinds": {kind: n}}``
POST    /v1/wait                            ``{"seen": {kind: n},    the same, once something is
                                            "timeout_seconds": x}``  newer or the time is up
GET     /v1/documents/<kind>                                         the bytes, their generation in
                                                                     a header; 204: none yet
GET     /v1/keys/<key id>                                            16 bytes
POST    /v1/servers/<name>/acknowledgement  ``{"server", "kind",     204; 409: the name is
                                            "generation", "dip",     another machine's
                                            "machine"}``
PUT     /v1/servers/<name>/report           a report                 204, the leader's mark and the
                                                                     flows that it asks for in
                                                                     headers; 409: the same
======  ==================================  =======================  ==============================

Every request carries ``Authorization: Bearer <token>`` (RFC 6750). An error is ``{"error": slug,
"message": line}`` with one of the statuses below; any other answer is not from a store.
"""

from __future__ import annotations

from controlplane.store.contract import (
    StoreConflict,
    StoreCorrupt,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)

GENERATION_HEADER = "brigade-generation"
MARK_HEADER = "brigade-mark"
ASKED_HEADER = "brigade-asked"
MAX_REQUEST_BYTES = 1 << 20
MAX_POLL_SECONDS = 2.0
"""Longest single poll; a client that waits longer polls again, so it notices ``close()``."""

_ERRORS: tuple[tuple[str, int, type[StoreError]], ...] = (
    ("denied", 403, StoreDenied),
    ("conflict", 409, StoreConflict),
    ("corrupt", 422, StoreCorrupt),
    ("unavailable", 503, StoreUnavailable),
)


def error_to_answer(error: StoreError) -> tuple[int, dict[str, str]]:
    """Return the status and JSON that stand for an error."""
    for slug, status, kind in _ERRORS:
        if isinstance(error, kind):
            return status, {"error": slug, "message": str(error)}
    return 500, {"error": "unknown", "message": str(error)}


def answer_to_error(content: object) -> StoreError | None:
    """Return the error that an answer's JSON stands for, ``None`` if it is not a store's."""
    if not isinstance(content, dict) or not isinstance(content.get("message"), str):
        return None
    message = "".join(c if c.isprintable() else "?" for c in content["message"])[:500]
    found = (kind for slug, _, kind in _ERRORS if slug == content.get("error"))
    kind = next(found, None)
    return None if kind is None else kind(message)
