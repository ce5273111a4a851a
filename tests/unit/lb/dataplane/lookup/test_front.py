"""The front says no only to what is no VIP, and says it to nearly all of that."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.front import build_front
from lb.dataplane.lookup.vips import HASH_A, WORD, address_words
from lb.dataplane.objects import Vip

VIEW = 0x9B1F_77AA_0C3D_5E71


def may_be(front: NDArray[Any], address: IPv4Address | IPv6Address) -> bool:
    """`lb_may_be_vip4()` and `lb_may_be_vip6()`."""
    if isinstance(address, IPv4Address):
        word = int.from_bytes(address.packed, "little")
        words = (word, word & int(front["block4"]))
    else:
        head, tail = address_words(address)
        words = (head * HASH_A + tail, (head & int(front["block6"])) * HASH_A)
    slots = [(word * VIEW & WORD) >> 64 - abi.MAY_BITS for word in words]
    return any(front["may"][slot] for slot in slots)


FORMS: list[list[Vip]] = [
    [IPv4Network(f"192.0.2.{n}") for n in range(64)],
    [IPv6Network(f"2001:db8::{n:x}") for n in range(64)],
    [IPv4Network("198.51.100.0/25"), IPv4Network("203.0.113.64/26"), IPv4Network("192.0.2.1")],
    [IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/31")],
    [IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2:3::/64"), IPv6Network("2001:db8::7")],
    [IPv6Network("2001:db8:5::ff00:0/104"), IPv6Network("2400::/16")],
]


@pytest.mark.parametrize("vips", FORMS, ids=str)
def test_no_vip_is_missed_and_nearly_all_else_is_told_apart(vips: list[Vip]) -> None:
    numbers = random.Random(7)
    front = build_front({vip: [] for vip in vips}, VIEW)
    for vip in vips:
        for _ in range(50):
            assert may_be(front, vip[numbers.randrange(vip.num_addresses)])
    version = vips[0].version
    others = [
        IPv4Address(numbers.getrandbits(32))
        if version == 4
        else IPv6Address(numbers.getrandbits(128))
        for _ in range(2000)
    ]
    beside = [address for address in others if not any(address in vip for vip in vips)]
    assert np.mean([may_be(front, address) for address in beside]) < 0.02


def test_without_vips_nothing_may_be_one() -> None:
    front = build_front({}, VIEW)
    assert not may_be(front, IPv4Address("192.0.2.1"))
    assert not may_be(front, IPv6Address("2001:db8::1"))
