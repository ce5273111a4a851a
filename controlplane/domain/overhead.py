"""How many bytes encapsulation adds to a packet (docs/wire.md, section 2)."""

from __future__ import annotations

from controlplane.domain.bounds import MAX_DEPTH

WRAP_BYTES = 36
"""Outer IPv4 (20), UDP (8), GUE (4) and its private data (4)."""
HOP_BYTES = 4
"""One later hop in the list."""
MAX_HOPS = MAX_DEPTH - 1
"""Later hops in the longest list."""


def overhead_bytes(depth: int) -> int:
    """Bytes that a link carries beyond the inner packet for chains of this depth (1 to 4)."""
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"a chain is 1 to {MAX_DEPTH} servers deep, not {depth}")
    return WRAP_BYTES + HOP_BYTES * (depth - 1)


LEAST_MTU = 1280 + overhead_bytes(MAX_DEPTH)
"""Nothing lowers the MTU below this: IPv6 senders never go below 1280 bytes (RFC 8200)."""
