"""The filter rejects only addresses that are not VIPs, and nearly all of those."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.vip_filter import build_filter
from lb.dataplane.lookup.words import address_word, address_words
from lb.dataplane.objects import Vip

VIEW = 0x9B1F_77AA_0C3D_5E71


def passes(vip_filter: NDArray[Any], address: IPv4Address | IPv6Address) -> bool:
    """`lb_vip_filter_passes4()` and `lb_vip_filter_passes6()`."""
    if isinstance(address, IPv4Address):
        word = address_word(address)
        words = (word, word & int(vip_filter["block4"]))
    else:
        head, tail = address_words(address)
        words = (
            abi.addr6_word(head, tail),
            abi.addr6_word(head & int(vip_filter["block6"]), 0),
        )
    return any(vip_filter["marked"][abi.row_of(VIEW, word, abi.VIP_FILTER_BITS)] for word in words)


FORMS: list[list[Vip]] = [
    [IPv4Network(f"192.0.2.{n}") for n in range(64)],
    [IPv6Network(f"2001:db8::{n:x}") for n in range(64)],
    [IPv4Network("198.51.100.0/25"), IPv4Network("203.0.113.64/26"), IPv4Network("192.0.2.1")],
    [IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/31")],
    [IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2:3::/64"), IPv6Network("2001:db8::7")],
    [IPv6Network("2001:db8:5::ff00:0/104"), IPv6Network("2400::/16")],
]


@pytest.mark.parametrize("vips", FORMS, ids=str)
def test_every_vip_passes_and_few_other_addresses_do(vips: list[Vip]) -> None:
    numbers = random.Random(7)
    vip_filter = build_filter(vips, VIEW)
    for vip in vips:
        for _ in range(50):
            assert passes(vip_filter, vip[numbers.randrange(vip.num_addresses)])
    version = vips[0].version
    others = [
        IPv4Address(numbers.getrandbits(32))
        if version == 4
        else IPv6Address(numbers.getrandbits(128))
        for _ in range(2000)
    ]
    beside = [address for address in others if not any(address in vip for vip in vips)]
    assert np.mean([passes(vip_filter, address) for address in beside]) < 0.02


def test_without_vips_no_address_passes() -> None:
    vip_filter = build_filter([], VIEW)
    assert not passes(vip_filter, IPv4Address("192.0.2.1"))
    assert not passes(vip_filter, IPv6Address("2001:db8::1"))
