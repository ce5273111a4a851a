"""Marks as text: ``<epoch>.<number>``, in a header and in a file."""

from __future__ import annotations

import re

from controlplane.documents.presence import Mark

_MARK = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)


def mark_to_text(mark: Mark) -> str:
    """Return a mark as text."""
    return f"{mark.epoch}.{mark.number}"


def text_to_mark(text: str) -> Mark | None:
    """Return the mark, ``None`` for anything else: without one, hops stay."""
    found = _MARK.fullmatch(text)
    return Mark(int(found[1]), int(found[2])) if found else None
