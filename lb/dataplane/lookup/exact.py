"""The exact-match table: decides most packets for a service.

It finds services of single addresses with a port by one multiplication. Pure; the counterpart of
`lb_find_exact4()` and `lb_find_exact6()` in bpf/services.h. A service that does not fit into its
row is left out: its packets are found by way of the VIPs (vips.py) and rows (rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.rows import Slot
from lb.dataplane.lookup.words import address_word, address_words
from lb.dataplane.objects import Vip


class _Rows:
    """Rows that are filled in order; entries that do not fit into their row are left out."""

    def __init__(self, table: NDArray[Any], view: int, bits: int, width: int) -> None:
        self._table = table["entry"]
        self._view = view
        self._bits = bits
        self._width = width
        self._used: dict[int, int] = {}

    def add(self, word: int, record: tuple[object, ...]) -> None:
        row = abi.row_of(self._view, word, self._bits)
        number = self._used.get(row, 0)
        if number < self._width:
            self._table[row, number] = record
            self._used[row] = number + 1


def build_exact(sets: Mapping[Vip, Iterable[Slot]], view: int) -> NDArray[Any]:
    """`struct lb_exact` for the services of each VIP."""
    exact = np.zeros((), dtype=abi.EXACT)
    rows4 = _Rows(exact["row4"], view, abi.EXACT4_BITS, abi.EXACT4_WIDTH)
    rows6 = _Rows(exact["row6"], view, abi.EXACT6_BITS, abi.EXACT6_WIDTH)
    for vip, served in sets.items():
        if vip.prefixlen != vip.max_prefixlen:
            continue
        address = vip.network_address
        for slot in served:
            if slot.kind != abi.ServiceKind.PORT:
                continue
            if isinstance(address, IPv4Address):
                match = address_word(address) | slot.protocol << 32 | slot.port << 48
                rows4.add(match, (match, slot.record()))
            else:
                match, words = slot.protocol | slot.port << 16, address_words(address)
                rows6.add(abi.addr6_word(*words) + match, (words, match, slot.record()))
    return exact
