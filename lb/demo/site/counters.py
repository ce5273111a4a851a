"""Packet counters of the servers, read from the pins of their data planes.

Counters start at zero with each new agent; `Counters` sums them over restarts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from lb.dataplane.errors import DataplaneError
from lb.dataplane.pinned import PinnedDataplane

FIRST_HOP = ("pass_local", "pass_to_self", "tx_forward", "tx_forward_chain")
"""Verdicts of the forwarder for packets of services that it did not drop."""
FORWARDED = ("tx_forward", "tx_forward_chain")
ACCEPTED = ("accept_last_hop", "accept_syn", "accept_socket", "accept_syncookie")
DAISY_CHAINED = "pass_on"


def growth(before: Mapping[str, int], now: Mapping[str, int]) -> Counter[str]:
    """Return the increase of each counter; one that is smaller now has started again at zero."""
    return Counter(
        {
            name: value - before.get(name, 0) if value >= before.get(name, 0) else value
            for name, value in now.items()
        }
    )


class Counters:
    """Sums since the start of the demo, by server."""

    def __init__(self, pins: Mapping[str, Path]) -> None:
        self._pins = pins
        self._last: dict[str, dict[str, int]] = {}
        self._sums: dict[str, Counter[str]] = {name: Counter() for name in pins}

    def read(self) -> dict[str, Counter[str]]:
        """Read the counters and return the sums. A server without pins keeps its last sums."""
        for server, path in self._pins.items():
            try:
                plane = PinnedDataplane(path)
            except DataplaneError:
                continue
            with plane:
                now = plane.counters()
            self._sums[server].update(growth(self._last.get(server, {}), now))
            self._last[server] = now
        return {server: Counter(sums) for server, sums in self._sums.items()}

    def daisy_chained(self) -> int:
        """Return the packets that any server passed on to a later hop, so far."""
        return sum(sums[DAISY_CHAINED] for sums in self.read().values())


def total(sums: Mapping[str, int], names: Iterable[str]) -> int:
    """Add up some counters."""
    return sum(sums.get(name, 0) for name in names)
