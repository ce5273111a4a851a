"""Finds the MTU of the path to one peer, where it is less than the interface's. Pure.

Full-size probes that fail while small ones pass begin a search among the usual MTUs. Only a probe
that was answered confirms an MTU: an ICMP error only adds a candidate, because it can be forged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from controlplane.domain.overhead import LEAST_MTU

USUAL_MTUS = (
    *(LEAST_MTU, 1400, 1420, 1440, 1450, 1460, 1476, 1480, 1492, 1500, 1540, 1544, 1548),
    *(1550, 1600, 2000, 3000, 4000, 8000, 8900, 8950, 9000, 9100, 9216),
)
FAILURES = 3
"""Full-size probes in a row that fail before the search begins."""
TRIES = 2
"""Probes of a candidate in a row that fail before it counts as too large."""
RISE_SECONDS = 30.0
"""How long full-size probes have to pass before a lower MTU is forgotten."""


class PathMtu:
    """The search on one path. ``known`` is the MTU that it carries, ``None``: the interface's.

    ``stuck``: no candidate passed, although small probes do.
    """

    def __init__(self, link_mtu: int) -> None:
        self.link_mtu = link_mtu
        self.known: int | None = None
        self.stuck = False
        self._failures: dict[int, int] = {}
        self._hints: set[int] = set()
        self._range: tuple[int, int] | None = None
        self._candidates: Sequence[int] = ()
        self._verify = False
        self._rising_since: float | None = None

    @property
    def searching(self) -> bool:
        """Whether the next probes should follow soon."""
        doubtful = 0 < self._failures.get(self.link_mtu, 0) < FAILURES
        return self._range is not None or (doubtful and self.known is None and not self.stuck)

    def explores(self, size: int) -> bool:
        """Whether a probe of this size is expected to fail, so that its failure is not a loss."""
        if self._range is not None or self.stuck:
            return True
        return self.known is not None and size > self.known

    def next_size(self) -> int:
        """Return the outer total length that the next probe should have, in bytes."""
        if self._range is not None:
            low, high = self._range
            return self._candidates[(low + high) // 2]
        self._verify = not self._verify
        lower = min(LEAST_MTU, self.link_mtu) if self.stuck else self.known
        return lower if self._verify and lower is not None else self.link_mtu

    def hint(self, mtu: int) -> None:
        """Note the MTU of an ICMP error: worth a try if full-size probes fail."""
        if LEAST_MTU <= mtu < self.link_mtu:
            self._hints = {mtu}

    def passed(self, size: int, now: float) -> None:
        """Note that a probe of this size was answered."""
        self._failures.pop(size, None)
        if size == self.link_mtu:
            self._rise(now)
        elif self._range is not None and size in self._candidates:
            low, high = self._range
            self._narrow(max(low, self._candidates.index(size)), high)
        elif self.stuck:
            self._search(len(self._all_candidates()))

    def failed(self, size: int, *, small_passes: bool) -> None:
        """Note that a probe of this size was not answered; ``small_passes``: smaller ones are."""
        if not small_passes:
            self._failures.clear()
            return
        self._failures[size] = self._failures.get(size, 0) + 1
        if size == self.link_mtu:
            self._rising_since = None
        if self._range is not None:
            low, high = self._range
            if size == self._candidates[(low + high) // 2] and self._failures[size] >= TRIES:
                self._failures.pop(size)
                self._narrow(low, (low + high) // 2)
        elif self._failures[size] >= FAILURES and size in (self.known, self.link_mtu):
            if size == self.known:
                self._search(bisect_left(self._all_candidates(), size))
            elif self.known is None and not self.stuck:
                self._search(len(self._all_candidates()))

    def _all_candidates(self) -> list[int]:
        found = {*USUAL_MTUS, *self._hints}
        return sorted(mtu for mtu in found if LEAST_MTU <= mtu < self.link_mtu)

    def _search(self, below: int) -> None:
        """Begin among the candidates before this position."""
        self._candidates = self._all_candidates()
        self._failures.clear()
        self._narrow(-1, below)

    def _narrow(self, low: int, high: int) -> None:
        """``low`` passed (-1: none did yet), ``high`` did not."""
        if high - low > 1:
            self._range = low, high
            return
        self._range = None
        self._failures.clear()
        self.known = self._candidates[low] if low >= 0 else None
        self.stuck = low < 0

    def _rise(self, now: float) -> None:
        self._range = None
        if self.known is None:
            self.stuck = False
            return
        if self._rising_since is None:
            self._rising_since = now
        if now - self._rising_since >= RISE_SECONDS:
            self.known = None
            self._rising_since = None
