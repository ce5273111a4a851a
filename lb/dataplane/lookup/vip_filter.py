"""The VIP filter: a byte or two decide that an address is not a VIP.

Pure; the counterpart of `lb_vip_filter_passes4()` and `lb_vip_filter_passes6()` in bpf/vips.h.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.words import address_word, address_words
from lb.dataplane.objects import Vip


def block_mask(vips: Collection[IPv4Network] | Collection[IPv6Network], bits: int) -> int:
    """`lb_vip_filter.block4` and `.block6`: the mask of the shortest prefix, in `bits` bits."""
    length = min([bits, *(vip.prefixlen for vip in vips)])
    mask = (1 << bits) - (1 << bits - length)
    return int.from_bytes(mask.to_bytes(bits // 8, "big"), "little")


def filter_word4(vip: IPv4Network, block: int) -> int:
    """Return the word of a VIP that `lb_vip_filter_passes4()` finds."""
    word = address_word(vip.network_address)
    return word if vip.prefixlen == vip.max_prefixlen else word & block


def filter_word6(vip: IPv6Network, block: int) -> int:
    """Return the word of a VIP that `lb_vip_filter_passes6()` finds."""
    head, tail = address_words(vip.network_address)
    if vip.prefixlen < vip.max_prefixlen:
        head, tail = head & block, 0
    return abi.addr6_word(head, tail)


def build_filter(vips: Collection[Vip], view: int) -> NDArray[Any]:
    """`struct lb_vip_filter` for some VIPs."""
    vips4 = [vip for vip in vips if isinstance(vip, IPv4Network)]
    vips6 = [vip for vip in vips if isinstance(vip, IPv6Network)]
    block4, block6 = block_mask(vips4, 32), block_mask(vips6, 64)
    words = [filter_word4(vip, block4) for vip in vips4]
    words += [filter_word6(vip, block6) for vip in vips6]
    made = np.zeros((), dtype=abi.VIP_FILTER)
    made["block4"], made["block6"] = block4, block6
    made["marked"][[abi.row_of(view, word, abi.VIP_FILTER_BITS) for word in words]] = 1
    return made
