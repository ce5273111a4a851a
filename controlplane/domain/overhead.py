"""How many bytes the wrap adds to a packet: one place for MTU checks, MSS and configurations."""

from __future__ import annotations

from controlplane.domain.objects import MAX_DEPTH

BASE_BYTES = 36
"""Outer IPv4 (20), UDP (8), GUE (4) and its private data (4): docs/wire.md, section 2."""
HOP_BYTES = 4
"""One later hop in the list."""


def room_bytes(depth: int) -> int:
    """Bytes that a link needs beyond the inner packet for chains of this depth (1 to 4)."""
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"a chain is 1 to {MAX_DEPTH} servers deep, not {depth}")
    return BASE_BYTES + HOP_BYTES * (depth - 1)
