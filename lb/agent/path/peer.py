"""What the probes of one peer have shown: reached, lost or unknown. Pure."""

from __future__ import annotations

from enum import StrEnum

from lb.agent.path.packet import SMALL_BYTES
from lb.agent.path.path_mtu import PathMtu

LOST_AFTER = 3
"""Probes in a row without answer."""
DOUBT_SECONDS = 0.25
"""A peer that has not answered is probed again after this time, until it is reached or lost."""
LOST_SECONDS = 2.0
"""So is a lost one, so that its return is noticed soon."""


class Reach(StrEnum):
    """What is known of a path. Unknown: no probe was ever answered, so echo may be filtered."""

    NEW = "new"
    REACHED = "reached"
    LOST = "lost"
    UNKNOWN = "unknown"


class PeerPath:
    """The path to one peer. ``probes`` and ``losses`` count since the start."""

    def __init__(self, link_mtu: int) -> None:
        self.probes = 0
        self.losses = 0
        self.sent_at = 0.0
        self.mtu = PathMtu(link_mtu)
        self._ever = False
        self._missed = 0
        self._full = False

    @property
    def reach(self) -> Reach:
        """What is known now."""
        if self._missed >= LOST_AFTER:
            return Reach.LOST if self._ever else Reach.UNKNOWN
        return Reach.REACHED if self._ever else Reach.NEW

    def follow_link(self, link_mtu: int) -> None:
        """Search anew if the interface's MTU is another."""
        if self.mtu.link_mtu != link_mtu:
            self.mtu = PathMtu(link_mtu)

    def due_again_at(self) -> float | None:
        """When it should be probed even if it is not its turn, ``None``: wait for its turn."""
        if self.reach is Reach.LOST:
            return self.sent_at + LOST_SECONDS
        if 0 < self._missed < LOST_AFTER or self.mtu.searching:
            return self.sent_at + DOUBT_SECONDS
        return None

    def next_size(self) -> int:
        """Return the size of the next probe: small and full-size ones alternate."""
        self._full = not self._full
        return SMALL_BYTES if self._full else self.mtu.next_size()

    def doubt(self) -> None:
        """One more loss is needed now to call it lost; it is probed again at once."""
        self._missed = min(self._missed, LOST_AFTER - 1)

    def answered(self, size: int, now: float) -> None:
        """Note that a probe of this size was answered."""
        self._ever = True
        self._missed = 0
        if size != SMALL_BYTES:
            self.mtu.passed(size, now)

    def missed(self, size: int) -> None:
        """Note that a probe of this size was not answered in time."""
        if size == SMALL_BYTES or not self.mtu.explores(size):
            self.losses += 1
            self._missed += 1
        if size != SMALL_BYTES:
            self.mtu.failed(size, small_passes=self.reach is Reach.REACHED)
