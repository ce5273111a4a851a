"""Which addresses and prefixes may be VIPs, for settings and documents. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

from controlplane.domain.names import shown
from controlplane.domain.objects import Vip, vip_text


def bounds(vip: Vip) -> tuple[int, int]:
    """Return a VIP's first and last address as numbers."""
    return int(vip.network_address), int(vip.broadcast_address)


MAX_IPV6_LENGTHS = 8
"""Distinct prefix lengths of IPv6 VIPs: each costs every packet for an IPv6 VIP a look-up."""
SHORTEST = {4: 8, 6: 16}
"""Shortest prefix that may be a VIP, by IP version."""
NO_VIPS = tuple(
    (network := ip_network(text), *bounds(network), what)
    for text, what in (
        ("0.0.0.0/8", "no host's address"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "no address"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Prefixes to which no router sends clients' packets (RFC 6890): bounds and names."""
PREFIX = re.compile(r"[0-9A-Fa-f:.]{2,45}(/(0|[1-9][0-9]{0,2}))?")
EXAMPLES = 'as "192.0.2.1", "192.0.2.0/24" or "2001:db8::/64"'


class BadVip(ValueError):
    """Not a valid VIP. ``reason`` is a document's refusal, the text begins with ``must``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def parse_vip(text: str) -> Vip:
    """Read a VIP: an IPv4 or IPv6 address, or a prefix. Raises ``BadVip``."""
    try:
        if not PREFIX.fullmatch(text):
            raise ValueError(text)
        vip = ip_network(text, strict=False)
    except ValueError:
        allowed = f"must be an address or a prefix {EXAMPLES}"
        raise BadVip("bad_address", f"{allowed}, not {shown(text)}") from None
    if vip.network_address != ip_address(text.partition("/")[0]):
        raise BadVip("bad_prefix", f"must not have bits set beyond its prefix: {text} is in {vip}")
    check_vip(vip)
    return vip


def check_vip(vip: Vip) -> None:
    """Refuse prefixes that no client can connect to or that are too short. Raises ``BadVip``."""
    shortest = SHORTEST[vip.version]
    if vip.prefixlen < shortest:
        raise BadVip(
            "bad_prefix", f"must be a prefix of /{shortest} to /{vip.max_prefixlen}, not {vip}"
        )
    first, last = bounds(vip)
    for network, low, high, what in NO_VIPS:
        if vip.version == network.version and first <= high and low <= last:
            verb = "is in" if vip.prefixlen >= network.prefixlen else "covers"
            raise BadVip(
                "bad_address",
                f"must be an address that clients can connect to; {vip_text(vip)} {verb} "
                f"{network} ({what})",
            )


class Hosts:
    """IPv4 addresses of hosts (DIPs, probers). Finds one that a VIP covers."""

    def __init__(self, addresses: Iterable[IPv4Address]) -> None:
        self._numbers = sorted(int(address) for address in addresses)

    def covered_by(self, vip: Vip) -> IPv4Address | None:
        """Return the lowest address that a VIP covers, or ``None``."""
        if isinstance(vip, IPv6Network):
            return None
        first, last = bounds(vip)
        at = bisect_left(self._numbers, first)
        found = at < len(self._numbers) and self._numbers[at] <= last
        return IPv4Address(self._numbers[at]) if found else None


class VipPrefixes:
    """A set of VIPs. Finds those that cover an address or a subnet."""

    def __init__(self, vips: Iterable[Vip]) -> None:
        self._vips = frozenset(vips)
        self._lengths = sorted({(vip.version, vip.prefixlen) for vip in self._vips})

    def covering(self, what: Vip) -> Iterator[Vip]:
        """Yield the VIPs that contain all of ``what``, the shortest prefix first."""
        for version, length in self._lengths:
            if version == what.version and length <= what.prefixlen:
                vip = what.supernet(new_prefix=length)
                if vip in self._vips:
                    yield vip


def ipv6_lengths(vips: Iterable[Vip]) -> Collection[int]:
    """Return the distinct prefix lengths of the IPv6 VIPs."""
    return {vip.prefixlen for vip in vips if isinstance(vip, IPv6Network)}


def in_order(vips: Iterable[Vip]) -> list[Vip]:
    """Return VIPs in order, IPv4 first."""
    return sorted(vips, key=lambda vip: (vip.version, vip))


def has_ipv6(vips: Iterable[Vip]) -> bool:
    """Whether one of the VIPs is IPv6."""
    return any(isinstance(vip, IPv6Network) for vip in vips)
