"""Which packets to show: an exact filter here, a coarse one in the kernel. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network

from controlplane.domain.errors import UsageError
from controlplane.domain.objects import PROTOCOLS
from lb import abi
from lb.flow_hash import Address
from lb.trace.packet import Packet

ICMP = 1
ICMPV6 = 58
UNINTERESTING = frozenset({"pass_not_ip", "pass_no_service", "ok_not_gue", "accept_path_probe"})
"""Packets that are not for a VIP: shown only on request."""
WORDS = 4
WORD_BYTES = 4

Network = IPv4Network | IPv6Network


def parse_network(text: str) -> Network:
    """Read an address or a prefix. ``UsageError``: it is neither."""
    try:
        return ip_network(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither an address nor a prefix") from None


def wanted_counters(patterns: Iterable[str]) -> frozenset[str]:
    """Return the counters that match a pattern (``drop_*``); without patterns, all of VIPs.

    Raises:
        UsageError: a pattern matches none.

    """
    found: set[str] = set()
    for pattern in patterns:
        names = {name for name in abi.COUNTERS if fnmatchcase(name, pattern)}
        if not names:
            raise UsageError(f"no counter is called {pattern!r}: see lbctl counters, docs/wire.md")
        found |= names
    return frozenset(found or set(abi.COUNTERS) - UNINTERESTING)


@dataclass(frozen=True)
class Filter:
    """Which packets to show; ``None`` matches anything. The port is the VIP's."""

    counters: frozenset[str]
    vip: Network | None = None
    client: Network | None = None
    protocol: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        if self.vip and self.client and self.vip.version != self.client.version:
            raise UsageError(f"{self.vip} and {self.client} are of two IP versions")

    def shows(self, counter: str, packet: Packet) -> bool:
        """Whether to show a packet. An ICMP error also belongs to the flow that it quotes."""
        return (
            counter in self.counters
            and self._fits_protocol(packet)
            and self.port in {None, packet.vip_port}
            and _within(packet.client, self.client)
            and _within(packet.vip, self.vip)
        )

    def _fits_protocol(self, packet: Packet) -> bool:
        if self.protocol == "icmp":
            return packet.protocol in {ICMP, ICMPV6}
        return self.protocol in {None, packet.flow_protocol}

    def defines(self) -> dict[str, int]:
        """Return the macros that trace.bpf.c expects."""
        bits = sum(1 << abi.COUNTERS.index(name) for name in self.counters)
        found = {"LB_TRACE": 1, "LB_TRACE_VERDICTS": bits}
        if self.vip is None and self.client is None and self.port is None and not self._transport:
            return found
        network = self.vip or self.client
        port = (self.port or 0).to_bytes(2, "big")
        return (
            found
            | {
                "LB_TRACE_FILTERED": 1,
                "LB_TRACE_VERSION": network.version if network else 0,
                "LB_TRACE_PROTOCOL": self._transport,
                "LB_TRACE_PORT": int.from_bytes(port, "little"),
            }
            | _words("LB_TRACE_VIP", self.vip)
            | _words("LB_TRACE_CLIENT", self.client)
        )

    @property
    def _transport(self) -> int:
        """The protocol, if the kernel can filter ordinary packets by it; else 0."""
        return PROTOCOLS.get(self.protocol or "", 0)


def _within(address: Address | None, network: Network | None) -> bool:
    return network is None or (address is not None and address in network)


def _words(name: str, network: Network | None) -> dict[str, int]:
    """Return a prefix and its mask as words that a little-endian load reads from a frame."""
    address = network.network_address.packed if network else b""
    mask = network.netmask.packed if network else b""
    found = {}
    for number in range(WORDS):
        part = slice(number * WORD_BYTES, (number + 1) * WORD_BYTES)
        found[f"{name}{number}"] = int.from_bytes(address[part], "little")
        found[f"{name}_MASK{number}"] = int.from_bytes(mask[part], "little")
    return found
