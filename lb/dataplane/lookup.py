"""Filling the two look-up tables: rows of a cache line, and a hash under which none overflows.

Pure arithmetic, the counterpart of bpf/services.h.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError

SEED_ATTEMPTS = 300
ROWS_AN_ENTRY = 4
LEAST_SERVICE_ROWS = 64

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


def swap16(number: int) -> int:
    """A 16-bit number as a little-endian load sees it in a frame."""
    return int.from_bytes(number.to_bytes(2, "big"), "little")


def address_word(address: IPv4Address) -> int:
    """An address as a little-endian load sees it in a frame."""
    return int.from_bytes(address.packed, "little")


def service_match(kind: abi.ServiceKind, vip: IPv4Address, protocol: int, port: int) -> int:
    """`lb_service.match` of a service, or, with protocol and port 0, of a VIP's marker."""
    return address_word(vip) | swap16(port) << 32 | protocol << 48 | int(kind) << 56


def _top_bits(view: int, words: Words, shift: int) -> Rows:
    return (words * np.uint64(view | 1) >> np.uint64(shift)).astype(np.int64)


def service_rows_of(view: int, matches: Words) -> Rows:
    """`lb_service_row()` of many match words."""
    shift = view >> abi.VIEW_SHIFT_AT & abi.VIEW_SHIFT_MASK
    return _top_bits(view, matches, shift)


def known_rows_of(view: int, addresses: Words) -> Rows:
    """`lb_known_row()` of many addresses."""
    return _top_bits(view, addresses, 64 - abi.KNOWN_BITS)


@dataclass(frozen=True)
class ServiceSlot:
    """One entry of the service table."""

    match: int
    pool: int = 0
    service: int = 0
    flags: int = 0


@dataclass(frozen=True)
class KnownSlot:
    """One entry of the table of known addresses."""

    address: IPv4Address
    dip: int
    flags: int


def _fits(rows: Rows, width: int) -> bool:
    return not len(rows) or int(np.bincount(rows).max()) <= width


def choose_view(half: int, matches: Words, addresses: Words, random_source: random.Random) -> int:
    """Choose a view word for a half under which services and known addresses fit their rows.

    As few rows as do: four for each entry at first, so that what packets touch stays in the caches.

    Raises:
        DataplaneError: none was found, which takes far more entries than the limits allow.

    """
    wanted = max(len(matches) * ROWS_AN_ENTRY, LEAST_SERVICE_ROWS)
    most = abi.SERVICE_ROWS.bit_length() - 1
    for bits in range(min((wanted - 1).bit_length(), most), most + 1):
        for _ in range(SEED_ATTEMPTS):
            low = (64 - bits) << abi.VIEW_SHIFT_AT | half
            view = random_source.getrandbits(57) << 7 | low
            if _fits(service_rows_of(view, matches), abi.SERVICE_WIDTH) and _fits(
                known_rows_of(view, addresses), abi.KNOWN_WIDTH
            ):
                return view
    raise DataplaneError("too many services or servers for the look-up tables")


def fill_rows(table: NDArray[Any], rows: Rows, records: NDArray[Any]) -> None:
    """Write records into their rows, each row from its front; everything else becomes zero."""
    image = np.zeros_like(table)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.searchsorted(ordered, ordered)
    image[ordered, np.arange(len(ordered)) - starts] = records[order]
    table[...] = image


def service_records(slots: Iterable[ServiceSlot]) -> NDArray[Any]:
    """Return entries as `struct lb_service`."""
    return np.array(
        [(slot.match, slot.service, slot.pool, slot.flags, 0) for slot in slots],
        dtype=abi.SERVICE,
    )


def known_records(slots: Iterable[KnownSlot]) -> NDArray[Any]:
    """Return entries as `struct lb_known`."""
    return np.array([(int(slot.address), slot.dip, slot.flags) for slot in slots], dtype=abi.KNOWN)
