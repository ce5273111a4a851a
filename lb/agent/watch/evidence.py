"""Whether packets reach the redirector, by the counters of both programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

PASSED = ("pass_no_service", "pass_local", "pass_to_self", "pass_vip_icmp")
"""Packets that the forwarder gives to the stack, and so to the redirector."""
SEEN = ("ok_", "accept_", "pass_on", "drop_gue", "drop_unknown", "drop_hop", "drop_inner")
"""Some of the redirector's verdicts: one of them grows with most packets, if it gets any."""
ENOUGH_PACKETS = 20
"""So many that the forwarder passed while the redirector got none: somebody takes them."""


class Evidence:
    """Two counts, reading by reading."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._unseen = 0

    @property
    def is_blind(self) -> bool:
        """Whether somebody takes the redirector's packets, until one arrives."""
        return self._unseen >= ENOUGH_PACKETS

    def add(self, counters: Mapping[str, int]) -> None:
        """Take one reading of packets by verdict."""
        passed = sum(counters.get(name, 0) for name in PASSED)
        seen = sum(number for name, number in counters.items() if name.startswith(SEEN))
        if self._last is not None:
            grown = max(0, passed - self._last[0])
            self._unseen = 0 if seen != self._last[1] else self._unseen + grown
        self._last = passed, seen
