"""The front: most packets are done with by it.

It tells what cannot be a VIP, by a byte or two, and finds services of single addresses with a port
by one multiplication. Pure; the counterpart of `lb_may_be_vip4()`, `lb_front4()` and their likes in
bpf/services.h. What a row has no room for is left out: packets for it are found the long way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.rows import Slot
from lb.dataplane.lookup.vips import BYTE_BITS, HASH_A, WORD, address_words
from lb.dataplane.objects import Vip

FRONT4 = abi.FRONT4_BITS, abi.FRONT4_WIDTH
FRONT6 = abi.FRONT6_BITS, abi.FRONT6_WIDTH


def front4_match(address: IPv4Address, slot: Slot) -> int:
    """`lb_front4.match`."""
    return int.from_bytes(address.packed, "little") | slot.protocol << 32 | slot.port << 48


def front6_match(slot: Slot) -> int:
    """`lb_front6.match`."""
    return slot.protocol | slot.port << 16


def front6_hash(address: IPv6Address, match: int) -> int:
    """What `lb_front6()` multiplies."""
    head, tail = address_words(address)
    return (head * HASH_A + tail + match) & WORD


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


def may_be_slot(view: int, word: int) -> int:
    """Return where `lb_may_be()` looks."""
    return (word * (view | 1) & WORD) >> 64 - abi.MAY_BITS


def block_mask(vips: Collection[IPv4Network] | Collection[IPv6Network], bits: int) -> int:
    """`lb_front.block4` and `.block6`: the mask of the shortest prefix, on `bits` of an address."""
    length = min([bits, *(vip.prefixlen for vip in vips)])
    mask = (1 << bits) - (1 << bits - length)
    return int.from_bytes(mask.to_bytes(bits // BYTE_BITS, "big"), "little")


def may_be4(vip: IPv4Network, block: int) -> int:
    """Return the word of a VIP that `lb_may_be_vip4()` finds."""
    word = int.from_bytes(vip.network_address.packed, "little")
    return word if vip.prefixlen == vip.max_prefixlen else word & block


def may_be6(vip: IPv6Network, block: int) -> int:
    """Return the word of a VIP that `lb_may_be_vip6()` finds."""
    head, tail = address_words(vip.network_address)
    if vip.prefixlen < vip.max_prefixlen:
        head, tail = head & block, 0
    return (head * HASH_A + tail) & WORD


def what_may_be(vips: Collection[Vip], view: int) -> tuple[int, int, list[int]]:
    """`lb_front.block4` and `.block6`, and which of `.may` are 1."""
    vips4 = [vip for vip in vips if isinstance(vip, IPv4Network)]
    vips6 = [vip for vip in vips if isinstance(vip, IPv6Network)]
    block4, block6 = block_mask(vips4, 32), block_mask(vips6, 64)
    words = [may_be4(vip, block4) for vip in vips4] + [may_be6(vip, block6) for vip in vips6]
    return block4, block6, [may_be_slot(view, word) for word in words]


def build_front(sets: Mapping[Vip, Iterable[Slot]], view: int) -> NDArray[Any]:
    """`struct lb_front` for what VIPs serve."""
    front = np.zeros((), dtype=abi.FRONT)
    front["block4"], front["block6"], slots = what_may_be(sets.keys(), view)
    front["may"][slots] = 1
    rows4 = _Rows(front["row4"], view, *FRONT4)
    rows6 = _Rows(front["row6"], view, *FRONT6)
    for vip, served in sets.items():
        if vip.prefixlen != vip.max_prefixlen:
            continue
        address = vip.network_address
        for slot in served:
            if slot.kind != abi.ServiceKind.PORT:
                continue
            if isinstance(address, IPv4Address):
                match = front4_match(address, slot)
                rows4.add(match, (match, slot.record()))
            else:
                match = front6_match(slot)
                record = (address_words(address), match, slot.record())
                rows6.add(front6_hash(address, match), record)
    return front
