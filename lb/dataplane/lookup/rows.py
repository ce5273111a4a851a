"""The services of each VIP, laid out in rows. Pure; the counterpart of bpf/services.h.

A packet's VIP leads to a row: up to four entries, those with a port first. A VIP with more services
has its entries with a port in overflow rows (``controlplane.domain.service_rows``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.service_rows import first_spread, port_match, rows_under, tight_spreads
from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ServiceEntry

MOST_ALONE = 24
"""A VIP with at most so many services gets a row for each, if they fit."""
SPARSE_BITS = 3
"""How many sizes are tried, each twice the one before, for a row for each service."""


@dataclass(frozen=True)
class Slot:
    """`struct lb_service`: one entry of a row."""

    match: int
    service: int
    pool: int
    flags: int

    @property
    def port(self) -> int:
        """As it lies in a frame; 0: any."""
        return self.match & 0xFFFF

    @property
    def protocol(self) -> int:
        """Its number."""
        return self.match >> 16 & 0xFF

    @property
    def kind(self) -> int:
        """An `abi.ServiceKind`."""
        return self.match >> 24

    def record(self) -> tuple[int, int, int, int]:
        """The fields in their order in C."""
        return self.match, self.service, self.pool, self.flags


def service_match(protocol: int, port: int | None) -> int:
    """`lb_service.match`."""
    if port is None:
        return protocol << 16 | int(abi.ServiceKind.ANY) << 24
    return port_match(protocol, port)


def service_flags(service: ServiceEntry) -> int:
    """`lb_service.flags`."""
    stateless = abi.SERVICE_STATELESS if service.stateless else 0
    return stateless | (abi.SERVICE_BY_CLIENT if service.by_client else 0)


def _spreads(count: int, *, tight: bool) -> Iterator[tuple[int, int]]:
    """Widths and bits to try for so many services, the best first."""
    least = (count - 1).bit_length()
    if not tight and count <= MOST_ALONE:
        yield from ((1, least + more) for more in range(SPARSE_BITS))
    yield from tight_spreads(count)


@dataclass
class _Layout:
    """The table while rows are allocated."""

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
        return abi.TRIE_LEAF | abi.TRIE_OVERFLOW | row

    def _spread(self, slots: Sequence[Slot], *, tight: bool) -> Slot:
        """Lay out entries in overflow rows and return the entry that leads there."""
        matches = np.array([slot.match for slot in slots], dtype=np.uint64)
        found = first_spread(matches, _spreads(len(slots), tight=tight))
        if found is None:
            raise DataplaneError(f"{len(slots)} services on one VIP: too many")
        multiplier, bits = found
        first = self.take(1 << bits)
        rows = rows_under(np.array([multiplier], dtype=np.uint64), bits, matches)[0]
        filled: dict[int, int] = {}
        for slot, at in zip(slots, rows.tolist(), strict=True):
            number = filled.get(at, 0)
            filled[at] = number + 1
            self.table["entry"][first + at, number] = slot.record()
        return Slot(multiplier | int(abi.ServiceKind.OVERFLOW) << 24, first, 0, 32 - bits)


def lay_out(sets: Sequence[Sequence[Slot]]) -> tuple[NDArray[Any], list[int]]:
    """Lay out the services of VIPs; return the table of rows, and each set's leaf.

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
