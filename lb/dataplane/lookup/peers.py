"""The table of peers: rows of a cache line, and a hash under which no row has too many.

Peers are the addresses that may send GUE to this server. Pure arithmetic, the counterpart of
`lb_peer_word()` in bpf/peers.h.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError

ATTEMPTS = 300
MULTIPLIER_BITS = 63

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


def peer_rows_of(view: int, addresses: Words) -> Rows:
    """`abi.row_of()` of many addresses in the table of peers."""
    product = addresses * np.uint64(view | 1)
    return (product >> np.uint64(64 - abi.PEER_BITS)).astype(np.int64)


def views(half: int, addresses: Words, random_source: random.Random) -> Iterator[int]:
    """Views for a half under which no row of peers has too many.

    Raises:
        DataplaneError: none was found, which takes far more addresses than the limits allow.

    """
    for _ in range(ATTEMPTS):
        view = random_source.getrandbits(MULTIPLIER_BITS) << 1 | half
        rows = peer_rows_of(view, addresses)
        if not len(rows) or int(np.bincount(rows).max()) <= abi.PEER_WIDTH:
            yield view
    raise DataplaneError("too many servers or VIPs for the look-up tables")


def fill_rows(table: NDArray[Any], rows: Rows, records: NDArray[Any]) -> None:
    """Write records into their rows, each row from its first entry; all else becomes zero."""
    image = np.zeros_like(table)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.searchsorted(ordered, ordered)
    image[ordered, np.arange(len(ordered)) - starts] = records[order]
    table[...] = image
