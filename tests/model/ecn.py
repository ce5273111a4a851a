"""Explicit congestion notification on the way out of the tunnel."""

from __future__ import annotations

NOT_ECT = 0b00
ECT_1 = 0b01
ECT_0 = 0b10
CE = 0b11


def decapsulated_ecn(inner: int, outer: int) -> int | None:
    """The ECN bits the delivered packet has; None: drop it (RFC 6040, section 4.2; wire.md, 6)."""
    if outer == CE:
        return None if inner == NOT_ECT else CE
    if outer == ECT_1 and inner == ECT_0:
        return ECT_1
    return inner
