"""Addresses of either family, and the prefixes that VIPs are."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Vip: TypeAlias = IPv4Network | IPv6Network


def host(address: Address) -> Vip:
    """The prefix of full length, which is what a VIP of a single address is."""
    return ip_network(address)
