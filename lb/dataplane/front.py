"""The front: services of single addresses with a port, found by one multiplication.

Pure; the counterpart of `lb_front4()` and `lb_front6()` in bpf/services.h. What a row has no room
for is left out: packets for it are found the long way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.objects import Vip
from lb.dataplane.services import Slot
from lb.dataplane.vips import HASH_A, WORD, address_words

FRONT4 = abi.FRONT4_BITS, abi.FRONT4_WIDTH
FRONT6 = abi.FRONT6_BITS, abi.FRONT6_WIDTH


def front4_match(address: IPv4Address, slot: Slot) -> int:
    """`lb_front4.match`."""
    return int.from_bytes(address.packed, "little") | slot.match << 32


def front6_hash(address: IPv6Address, slot: Slot) -> int:
    """What `lb_front6()` multiplies."""
    head, tail = address_words(address)
    return (head * HASH_A + tail + (slot.match << 32)) & WORD


class _Rows:
    """Rows that are filled from the front for as long as they have room."""

    def __init__(self, table: NDArray[Any], view: int, bits: int, width: int) -> None:
        self._table = table["entry"]
        self._multiplier = view | 1
        self._shift = 64 - bits
        self._width = width
        self._used: dict[int, int] = {}

    def add(self, word: int, record: tuple[object, ...]) -> None:
        row = (word * self._multiplier & WORD) >> self._shift
        number = self._used.get(row, 0)
        if number < self._width:
            self._table[row, number] = record
            self._used[row] = number + 1


def build_front(sets: Mapping[Vip, Iterable[Slot]], view: int) -> NDArray[Any]:
    """`struct lb_front` for what VIPs serve."""
    front = np.zeros((), dtype=abi.FRONT)
    rows4 = _Rows(front["row4"], view, *FRONT4)
    rows6 = _Rows(front["row6"], view, *FRONT6)
    for vip, slots in sets.items():
        if vip.prefixlen != vip.max_prefixlen:
            continue
        address = vip.network_address
        for slot in slots:
            if slot.match >> 24 != abi.ServiceKind.PORT:
                continue
            if isinstance(address, IPv4Address):
                match = front4_match(address, slot)
                rows4.add(match, (match, slot.record()))
            else:
                record = (address_words(address), slot.match, slot.record())
                rows6.add(front6_hash(address, slot), record)
    return front
