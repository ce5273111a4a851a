"""What each VIP serves, and how its services lie in rows. Pure; the counterpart of bpf/services.h.

A row is what a packet's VIP leads to: up to four entries, those with a port first. A VIP that
serves more has its entries with a port in rows of their own, chosen by a multiply-shift hash
(Dietzfelbinger et al., 1997) under which no row overflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ServiceEntry, Vip

WORD32 = np.uint64(0xFFFFFFFF)
SEED = 0x5EED
TRIES = 64
MOST_ALONE = 24
"""Services of a VIP up to which each gets a row of its own, if there is room."""
SPARSE_BITS = 3
"""How many times a table for services alone in their rows is doubled."""
ANY = 0


def swap16(number: int) -> int:
    """A 16-bit number as a little-endian load sees it in a frame."""
    return int.from_bytes(number.to_bytes(2, "big"), "little")


@dataclass(frozen=True)
class Slot:
    """`struct lb_service`: one entry of a row."""

    match: int
    service: int
    pool: int
    flags: int

    def record(self) -> tuple[int, int, int, int]:
        """The fields in their order in C."""
        return self.match, self.service, self.pool, self.flags


Effective = dict[tuple[int, int | None], ServiceEntry]
"""What an address of a VIP serves, by protocol and port."""


def service_match(protocol: int, port: int | None) -> int:
    """`lb_service.match`."""
    kind = abi.ServiceKind.ANY if port is None else abi.ServiceKind.PORT
    return swap16(port or 0) | protocol << 16 | int(kind) << 24


def service_flags(service: ServiceEntry) -> int:
    """`lb_service.flags`."""
    stateless = abi.SERVICE_STATELESS if service.stateless else 0
    return stateless | (abi.SERVICE_BY_CLIENT if service.by_client else 0)


def _covering(vip: Vip, lengths: Sequence[int], known: Mapping[tuple[int, int], Vip]) -> Vip | None:
    """The longest known prefix that covers a VIP and is shorter."""
    number = int(vip.network_address)
    for length in lengths:
        if length < vip.prefixlen:
            found = known.get((length, number >> vip.max_prefixlen - length))
            if found is not None:
                return found
    return None


def effective_services(services: Sequence[ServiceEntry]) -> dict[Vip, Effective]:
    """What each VIP serves when its own services and those of covering prefixes are put together.

    Of several services for one protocol and port that of the longest prefix counts, and an any-port
    service hides all of its protocol in shorter prefixes. All VIPs of one IP version.
    """
    found: dict[Vip, Effective] = {}
    for service in services:
        found.setdefault(service.vip, {})[service.protocol, service.port] = service
    lengths = sorted({vip.prefixlen for vip in found}, reverse=True)
    known = {
        (vip.prefixlen, int(vip.network_address) >> vip.max_prefixlen - vip.prefixlen): vip
        for vip in found
    }
    for vip in sorted(found, key=lambda vip: vip.prefixlen):
        above = _covering(vip, lengths, known)
        if above is not None:
            found[vip] = _inherited(found[vip], found[above]) | found[vip]
    return found


def _inherited(own: Effective, above: Effective) -> Effective:
    return {
        (protocol, port): service
        for (protocol, port), service in above.items()
        if (protocol, None) not in own
    }


def _rows_under(multipliers: NDArray[np.uint64], bits: int, matches: NDArray[np.uint64]) -> Any:
    """`lb_more_row()`: the rows [multiplier, match], counted from the first."""
    product = multipliers[:, None] * matches[None, :] & WORD32
    return product >> np.uint64(32 - bits)


def find_spread(matches: NDArray[np.uint64], width: int, bits: int) -> int | None:
    """A multiplier under which at most `width` of these share one of 2^bits rows, or None."""
    numbers = np.random.default_rng(SEED + bits)
    multipliers = numbers.integers(0, 1 << 24, TRIES, dtype=np.uint64) | np.uint64(1)
    rows = np.sort(_rows_under(multipliers, bits, matches), axis=1)
    crowded = (rows[:, width:] == rows[:, :-width]).any(axis=1)
    good = np.flatnonzero(~crowded)
    return int(multipliers[good[0]]) if len(good) else None


def _spreads(count: int, *, tight: bool) -> Iterator[tuple[int, int]]:
    """Widths and bits to try for so many services, the most wanted first."""
    least = (count - 1).bit_length()
    if not tight and count <= MOST_ALONE:
        yield from ((1, least + more) for more in range(SPARSE_BITS))
    begin = max((-(-count // abi.SERVICE_WIDTH) - 1).bit_length(), 1)
    most = (abi.SERVICE_ROWS - 1).bit_length()
    yield from ((abi.SERVICE_WIDTH, bits) for bits in range(begin, most))


@dataclass
class _Layout:
    """Rows as they are handed out."""

    table: NDArray[Any]
    used: int = 0

    def take(self, count: int) -> int:
        first, self.used = self.used, self.used + count
        if self.used > len(self.table):
            raise DataplaneError(
                "the services of all VIPs do not fit: fewer services on prefixes "
                "that contain many other VIPs"
            )
        return first

    def add(self, slots: Sequence[Slot], *, tight: bool) -> int:
        """Lay out one VIP's entries and return the leaf that leads to them."""
        row = self.take(1)
        if len(slots) <= abi.SERVICE_WIDTH:
            for number, slot in enumerate(slots):
                self.table["entry"][row, number] = slot.record()
            return abi.TRIE_LEAF | row
        with_port = [s for s in slots if s.match >> 24 == abi.ServiceKind.PORT]
        rest = [s for s in slots if s.match >> 24 == abi.ServiceKind.ANY]
        for number, slot in enumerate((self._spread(with_port, tight=tight), *rest)):
            self.table["entry"][row, number] = slot.record()
        return abi.TRIE_LEAF | abi.TRIE_MORE | row

    def _spread(self, slots: Sequence[Slot], *, tight: bool) -> Slot:
        """Lay out entries in rows of their own and return the entry that leads there."""
        matches = np.array([slot.match for slot in slots], dtype=np.uint64)
        for width, bits in _spreads(len(slots), tight=tight):
            multiplier = find_spread(matches, width, bits)
            if multiplier is not None:
                break
        else:
            raise DataplaneError(f"{len(slots)} services on one VIP: too many")
        first = self.take(1 << bits)
        rows = _rows_under(np.array([multiplier], dtype=np.uint64), bits, matches)[0]
        filled: dict[int, int] = {}
        for slot, at in zip(slots, rows.tolist(), strict=True):
            number = filled.get(at, 0)
            filled[at] = number + 1
            self.table["entry"][first + at, number] = slot.record()
        return Slot(multiplier | int(abi.ServiceKind.MORE) << 24, first, 0, 32 - bits)


def lay_out(sets: Sequence[Sequence[Slot]]) -> tuple[NDArray[Any], list[int]]:
    """Lay out what VIPs serve: the table of rows, and each set's leaf.

    Raises:
        DataplaneError: they do not fit.

    """
    for tight in (False, True):
        layout = _Layout(np.zeros(abi.SERVICE_ROWS, dtype=abi.SERVICE_ROW))
        try:
            return layout.table, [layout.add(slots, tight=tight) for slots in sets]
        except DataplaneError:
            if tight:
                raise
    raise AssertionError("unreachable")
