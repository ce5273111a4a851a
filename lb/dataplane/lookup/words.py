"""Addresses as the programs read them from a frame: little-endian words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address


def address_word(address: IPv4Address) -> int:
    """Return an IPv4 address as one word."""
    return int.from_bytes(address.packed, "little")


def address_words(address: IPv6Address) -> tuple[int, int]:
    """Return an IPv6 address as two words."""
    packed = address.packed
    return int.from_bytes(packed[:8], "little"), int.from_bytes(packed[8:], "little")
