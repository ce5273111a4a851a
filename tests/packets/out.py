"""Checks of a frame that comes out, where a row expects more than its counter implies."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from tests.packets.world import dip

Check = Callable[[bytes], bool]


def hops_of(frame: bytes) -> list[IPv4Address]:
    """The destination and the hop list of an encapsulated frame: the visits in order."""
    listed = [IPv4Address(frame[50 + 4 * n : 54 + 4 * n]) for n in range(frame[49])]
    return [IPv4Address(frame[30:34]), *listed]


def visits(*numbers: int) -> Check:
    """These servers, in this order."""
    return lambda frame: hops_of(frame) == [dip(number) for number in numbers]


def has(at: int, value: bytes) -> Check:
    """These bytes at this offset."""
    return lambda frame: frame[at : at + len(value)] == value


def both(*checks: Check) -> Check:
    """All of several checks."""
    return lambda frame: all(check(frame) for check in checks)
