"""Flows in a report: orphans, and those that the server was asked for and has (docs/documents.md).

Decoding is safe against hostile bytes, in bounded memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.documents.fields import DocumentError
from controlplane.domain.names import is_name, shown
from controlplane.domain.objects import FlowName

MOST_ORPHANS = 32
MOST_HELD = 64
MOST_COUNTS = 1024
MOST_COUNT = (1 << 63) - 1
HASH = re.compile(r"[0-9a-f]{16}", re.ASCII)
FLOW_PARTS, COUNT_PARTS = 2, 3


@dataclass(frozen=True)
class ReportedFlows:
    """What one report has.

    ``orphans``: flows whose segments had nowhere to go there, a sample. ``held``: flows that it was
    asked for and has an open socket of. ``counts``: orphans since its start, by pool and kind.
    """

    orphans: tuple[FlowName, ...] = ()
    held: tuple[FlowName, ...] = ()
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


def encode_flows(flows: ReportedFlows) -> dict[str, Any] | None:
    """Return them as values for JSON, ``None`` if there are none."""
    body = {
        "orphans": _names(flows.orphans[:MOST_ORPHANS]),
        "held": _names(flows.held[:MOST_HELD]),
        "counts": [
            [pool, kind, count] for (pool, kind), count in sorted(flows.counts.items()) if count
        ][:MOST_COUNTS],
    }
    kept = {key: values for key, values in body.items() if values}
    return kept or None


def _names(flows: Iterable[FlowName]) -> list[list[str]]:
    return [[flow.pool, f"{flow.hash:016x}"] for flow in flows]


def decode_flows(content: object) -> ReportedFlows:
    """Read them. Unknown keys are skipped: a newer agent may report more.

    Raises ``DocumentError``: they are damaged, or more than an agent may report.
    """
    if content is None:
        return ReportedFlows()
    if not isinstance(content, dict):
        raise DocumentError("wrong_type", "flows is not an object")
    counts = (_count(one) for one in _list(content, "counts", MOST_COUNTS))
    return ReportedFlows(
        tuple(_flow(one) for one in _list(content, "orphans", MOST_ORPHANS)),
        tuple(_flow(one) for one in _list(content, "held", MOST_HELD)),
        dict(counts),
    )


def _list(content: Mapping[str, Any], key: str, most: int) -> list[Any]:
    values = content.get(key, [])
    if not isinstance(values, list):
        raise DocumentError("wrong_type", f"flows.{key} is not a list")
    if len(values) > most:
        raise DocumentError("too_large", f"flows.{key} has over {most} entries")
    return values


def _parts(content: object, count: int) -> list[Any]:
    if not isinstance(content, list) or len(content) != count:
        raise DocumentError("bad_array", f"flows: {shown(content)} does not have {count} parts")
    return content


def _name(text: object) -> str:
    if not isinstance(text, str) or not is_name(text):
        raise DocumentError("bad_name", f"flows: {shown(text)} is not a name")
    return text


def _flow(content: object) -> FlowName:
    pool, text = _parts(content, FLOW_PARTS)
    if not isinstance(text, str) or not HASH.fullmatch(text):
        raise DocumentError("out_of_range", f"flows: {shown(text)} is not a hash")
    return FlowName(_name(pool), int(text, 16))


def _count(content: object) -> tuple[tuple[str, str], int]:
    pool, kind, count = _parts(content, COUNT_PARTS)
    if type(count) is not int or not 0 <= count <= MOST_COUNT:
        raise DocumentError("out_of_range", f"flows: {shown(count)} is not a count")
    return (_name(pool), _name(kind)), count
