"""Which services each VIP has, and how they are divided into the rows of a look-up. Pure.

A row has four entries. If a VIP has more services, those with a port are in rows of their own,
chosen by a multiply-shift hash (Dietzfelbinger et al., 1997) under which no row overflows. The data
plane builds its tables this way, and the controller counts rows this way (``lookup_capacity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import Vip

ROW_WIDTH = 4
"""Entries in a row: a look-up reads one row."""
MOST_BITS = 13
"""A VIP has at most 2^13 rows of its own: half of all rows."""
WORD32 = np.uint64(0xFFFFFFFF)
SEED = 0x5EED
TRIES = 64
PORT_KIND = 1


class Bound(Protocol):
    """A service's VIP, protocol and port. ``port`` ``None``: any."""

    @property
    def vip(self) -> Vip:
        """Its addresses."""

    @property
    def protocol(self) -> int:
        """The number in the IP header."""

    @property
    def port(self) -> int | None:
        """The port."""


Service = TypeVar("Service", bound=Bound)


class ParentVips:
    """Finds the next shorter prefix around a VIP. All VIPs are of one IP version."""

    def __init__(self, vips: Iterable[Vip]) -> None:
        self._known = {self._key(vip, vip.prefixlen): vip for vip in vips}
        self._lengths = sorted({length for length, _ in self._known}, reverse=True)

    @staticmethod
    def _key(vip: Vip, length: int) -> tuple[int, int]:
        return length, int(vip.network_address) >> vip.max_prefixlen - length

    def of(self, vip: Vip) -> Vip | None:
        """Return the longest of the shorter prefixes that cover a VIP, ``None`` if none does."""
        for length in self._lengths:
            if length < vip.prefixlen:
                found = self._known.get(self._key(vip, length))
                if found is not None:
                    return found
        return None


def effective_services(
    services: Sequence[Service],
) -> dict[Vip, dict[tuple[int, int | None], Service]]:
    """Return each VIP's services, those of covering prefixes included, by protocol and port.

    Of several services for one protocol and port, the one of the longest prefix counts. An any-port
    service hides all services of its protocol in shorter prefixes. All VIPs are of one IP version.
    The result may be large: count it first (``lookup_capacity``).
    """
    found: dict[Vip, dict[tuple[int, int | None], Service]] = {}
    for service in services:
        found.setdefault(service.vip, {})[service.protocol, service.port] = service
    parents = ParentVips(found)
    for vip in sorted(found, key=lambda vip: vip.prefixlen):
        above = parents.of(vip)
        if above is not None:
            found[vip] = _inherited(found[vip], found[above]) | found[vip]
    return found


def _inherited(
    own: Mapping[tuple[int, int | None], Service], above: Mapping[tuple[int, int | None], Service]
) -> dict[tuple[int, int | None], Service]:
    return {
        (protocol, port): service
        for (protocol, port), service in above.items()
        if (protocol, None) not in own
    }


def port_match(protocol: int, port: int) -> int:
    """`lb_service.match` of a service with a port: a little-endian load from a frame."""
    swapped = int.from_bytes(port.to_bytes(2, "big"), "little")
    return swapped | protocol << 16 | PORT_KIND << 24


def rows_under(multipliers: NDArray[np.uint64], bits: int, matches: NDArray[np.uint64]) -> Any:
    """`lb_overflow_row()`: the rows [multiplier, match], counted from the first."""
    product = multipliers[:, None] * matches[None, :] & WORD32
    return product >> np.uint64(32 - bits)


def find_spread(matches: NDArray[np.uint64], width: int, bits: int) -> int | None:
    """A multiplier under which at most `width` of these share one of 2^bits rows, or None."""
    numbers = np.random.default_rng(SEED + bits)
    multipliers = numbers.integers(0, 1 << 24, TRIES, dtype=np.uint64) | np.uint64(1)
    rows = np.sort(rows_under(multipliers, bits, matches), axis=1)
    crowded = (rows[:, width:] == rows[:, :-width]).any(axis=1)
    good = np.flatnonzero(~crowded)
    return int(multipliers[good[0]]) if len(good) else None


def least_bits(count: int) -> int:
    """Return the bits of the fewest rows that hold ``count`` services with a port."""
    return max((-(-count // ROW_WIDTH) - 1).bit_length(), 1)


def tight_spreads(count: int) -> Iterator[tuple[int, int]]:
    """Yield widths and bits to try for the fewest rows, the fewest first."""
    yield from ((ROW_WIDTH, bits) for bits in range(least_bits(count), MOST_BITS + 1))


def first_spread(
    matches: NDArray[np.uint64], spreads: Iterable[tuple[int, int]]
) -> tuple[int, int] | None:
    """Return multiplier and bits of the first of these spreads that works, or ``None``."""
    for width, bits in spreads:
        multiplier = find_spread(matches, width, bits)
        if multiplier is not None:
            return multiplier, bits
    return None
