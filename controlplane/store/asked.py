"""Flows that servers are asked for, as text: ``<pool>/<hex>,...``, in a header and in a file."""

from __future__ import annotations

import re
from collections.abc import Collection

from controlplane.domain.names import is_name
from controlplane.domain.objects import ANSWER_BITS, AskedFlow

MOST_ASKED = 64
MAX_ASKED_BYTES = 8 << 10
_DIGITS = (64 - ANSWER_BITS) // 4
_FLOW = re.compile(rf"([^/,]+)/([0-9a-f]{{{_DIGITS}}})", re.ASCII)


def asked_to_text(asked: Collection[AskedFlow]) -> str:
    """Return them as text, at most so many."""
    return ",".join(f"{one.pool}/{one.part:0{_DIGITS}x}" for one in sorted(asked)[:MOST_ASKED])


def text_to_asked(text: str) -> frozenset[AskedFlow]:
    """Return the flows in a text, without what cannot be read."""
    found = (_FLOW.fullmatch(part) for part in text[:MAX_ASKED_BYTES].split(",")[:MOST_ASKED])
    return frozenset(AskedFlow(one[1], int(one[2], 16)) for one in found if one and is_name(one[1]))
