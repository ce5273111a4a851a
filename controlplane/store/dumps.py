"""The last dumps of servers as JSON. What is in a dump is checked by who reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from controlplane.domain.seen_dumps import SeenDump
from controlplane.store.contract import StoreCorrupt
from controlplane.store.names import check_name
from controlplane.store.reports import parse_object

MAX_DUMPS_BYTES = 256 << 20
LATEST = float(1 << 40)


def encode_dumps(dumps: Mapping[str, SeenDump]) -> bytes:
    """Return dumps as UTF-8 JSON. Raises ``StoreCorrupt``: they are too large."""
    values = {name: asdict(seen) for name, seen in dumps.items()}
    data = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_DUMPS_BYTES:
        raise StoreCorrupt(f"dumps of {len(data)} bytes are over {MAX_DUMPS_BYTES}")
    return data


def decode_dumps(data: bytes) -> dict[str, SeenDump]:
    """Return the dumps that ``data`` has. Raises ``StoreCorrupt``."""
    found = {}
    for name, content in parse_object(data, "the dumps").items():
        at = content.get("at") if isinstance(content, dict) else None
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= LATEST:
            raise StoreCorrupt("dumps must have when they were seen in Unix seconds")
        found[check_name(name, "server")] = SeenDump(float(at), content.get("body"))
    return found
