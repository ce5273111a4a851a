"""Filling the two look-up tables: rows of eight, and a hash under which no row overflows.

Pure arithmetic, the counterpart of bpf/services.h.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError

SEED_ATTEMPTS = 1000


def swap16(number: int) -> int:
    """A 16-bit number as a little-endian load sees it in a frame."""
    return int.from_bytes(number.to_bytes(2, "big"), "little")


def address_word(address: IPv4Address) -> int:
    """An address as a little-endian load sees it in a frame."""
    return int.from_bytes(address.packed, "little")


def service_match(kind: abi.ServiceKind, vip: IPv4Address, protocol: int, port: int) -> int:
    """`lb_service.match` of a service, or, with protocol and port 0, of a VIP's marker."""
    return address_word(vip) | swap16(port) << 32 | protocol << 48 | int(kind) << 56


def rows_of(view: int, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """`lb_lookup_row()` of many words."""
    shift = np.uint64(64 - abi.LOOKUP_BITS)
    return (words * np.uint64(view | 1) >> shift).astype(np.int64)


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


def fits(view: int, words: NDArray[np.uint64]) -> bool:
    """Whether no row gets more than eight of the words."""
    if not len(words):
        return True
    return int(np.bincount(rows_of(view, words)).max()) <= abi.LOOKUP_WIDTH


def choose_view(half: int, sets: Sequence[NDArray[np.uint64]], random_source: random.Random) -> int:
    """Choose a view word for a half under which every set of words fits its table.

    Raises:
        DataplaneError: none was found, which takes far more entries than the limits allow.

    """
    for _ in range(SEED_ATTEMPTS):
        view = random_source.getrandbits(64) & ~1 | half
        if all(fits(view, words) for words in sets):
            return view
    raise DataplaneError("too many services or servers for the look-up tables")


def fill_rows(table: NDArray[Any], rows: NDArray[np.int64], records: NDArray[Any]) -> None:
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
        [(slot.match, (0, 0, 0), slot.service, slot.pool, slot.flags, 0) for slot in slots],
        dtype=abi.SERVICE,
    )


def known_records(slots: Iterable[KnownSlot]) -> NDArray[Any]:
    """Return entries as `struct lb_known`."""
    return np.array([(int(slot.address), slot.dip, slot.flags) for slot in slots], dtype=abi.KNOWN)
