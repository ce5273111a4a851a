"""The table of known addresses: rows of a cache line, and a hash under which none overflows.

Pure arithmetic, the counterpart of `lb_known_word()` in bpf/services.h.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError

ATTEMPTS = 300
MULTIPLIER_BITS = 63

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


def address_word(address: IPv4Address) -> int:
    """An address as a little-endian load sees it in a frame."""
    return int.from_bytes(address.packed, "little")


def known_rows_of(view: int, addresses: Words) -> Rows:
    """`lb_known_row()` of many addresses."""
    product = addresses * np.uint64(view | 1)
    return (product >> np.uint64(64 - abi.KNOWN_BITS)).astype(np.int64)


@dataclass(frozen=True)
class KnownSlot:
    """One entry of the table of known addresses."""

    address: IPv4Address
    dip: int
    flags: int


def views(half: int, addresses: Words, random_source: random.Random) -> Iterator[int]:
    """Views for a half under which no row of known addresses overflows.

    Raises:
        DataplaneError: none was found, which takes far more addresses than the limits allow.

    """
    for _ in range(ATTEMPTS):
        view = random_source.getrandbits(MULTIPLIER_BITS) << 1 | half
        rows = known_rows_of(view, addresses)
        if not len(rows) or int(np.bincount(rows).max()) <= abi.KNOWN_WIDTH:
            yield view
    raise DataplaneError("too many servers or VIPs for the look-up tables")


def fill_rows(table: NDArray[Any], rows: Rows, records: NDArray[Any]) -> None:
    """Write records into their rows, each row from its front; everything else becomes zero."""
    image = np.zeros_like(table)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.searchsorted(ordered, ordered)
    image[ordered, np.arange(len(ordered)) - starts] = records[order]
    table[...] = image


def known_records(slots: Iterable[KnownSlot]) -> NDArray[Any]:
    """Return entries as `struct lb_known`."""
    return np.array([(int(slot.address), slot.dip, slot.flags) for slot in slots], dtype=abi.KNOWN)
