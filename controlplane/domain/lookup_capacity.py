"""Whether services fit a server's look-up tables: one rule for settings and data plane. Pure.

What is scarce: nodes of the trie that IPv4 VIPs are looked up in, rows of services, lengths of IPv6
prefixes. ``find_shortage`` says no if, and only if, the tables cannot be laid out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network

import numpy as np

from controlplane.domain.objects import Vip
from controlplane.domain.service_rows import (
    ROW_WIDTH,
    Bound,
    Covering,
    effective_services,
    first_spread,
    least_bits,
    port_match,
    tight_spreads,
)
from controlplane.domain.vips import MAX_IPV6_LENGTHS, ipv6_lengths

TRIE_NODES = 1024
SERVICE_ROWS = 16384
TOP_BITS, NODE_BITS = 16, 24
IP_VERSIONS = (4, 6)
FEWER = "put fewer services on prefixes that contain many other VIPs"


def find_shortage(services: Sequence[Bound]) -> str | None:
    """Say what the tables lack for these services, and what to do; ``None``: they fit."""
    lack = find_certain_shortage(services)
    if lack is None:
        rows = rows_needed(services)
        if rows is None:
            lack = f"too many on one VIP: {FEWER}"
        elif rows > SERVICE_ROWS:
            lack = _too_many_rows(rows)
    return lack


def find_certain_shortage(services: Sequence[Bound]) -> str | None:
    """Say what the tables certainly lack, by counting alone: in milliseconds, whatever it is.

    What it lets pass takes little memory to lay out, and may still lack a few rows.
    """
    vips = {service.vip for service in services}
    lengths = sorted(ipv6_lengths(vips))
    if len(lengths) > MAX_IPV6_LENGTHS:
        have = ", ".join(f"/{length}" for length in lengths)
        return f"IPv6 VIPs must have at most {MAX_IPV6_LENGTHS} prefix lengths, not {have}"
    nodes = trie_nodes(vip for vip in vips if isinstance(vip, IPv4Network))
    if nodes > TRIE_NODES:
        return (
            f"the IPv4 VIPs lie in too many different networks: {nodes:,} look-up nodes are "
            f"needed (one for each /24 and each /16 that VIPs lie in), {TRIE_NODES:,} are there; "
            "use VIPs that lie together, or prefixes"
        )
    rows = sum(_least_rows(served) for served in served_counts(services))
    return _too_many_rows(rows) if rows > SERVICE_ROWS else None


def _too_many_rows(rows: int) -> str:
    return (
        f"what all VIPs serve, services of prefixes around them included, needs {rows:,} rows, "
        f"{SERVICE_ROWS:,} are there; {FEWER}"
    )


def trie_nodes(vips: Iterable[IPv4Network]) -> int:
    """Return how many nodes of 256 entries a trie of different IPv4 VIPs takes.

    The empty one; for each /16 in which longer prefixes lie, one, and for each /24 likewise; one
    for each prefix that fills whole /24s (all its /24s lead there), two if it fills whole /16s.
    """
    split: set[tuple[int, int]] = set()
    full = 0
    for vip in vips:
        number = int(vip.network_address)
        if vip.prefixlen > TOP_BITS:
            split.add((TOP_BITS, number >> TOP_BITS))
        if vip.prefixlen > NODE_BITS:
            split.add((NODE_BITS, number >> vip.max_prefixlen - NODE_BITS))
        else:
            full += 1 if vip.prefixlen > TOP_BITS else 2
    return 1 + len(split) + full


def rows_needed(services: Sequence[Bound]) -> int | None:
    """Return how many rows the services take where room is short.

    ``None``: one VIP's cannot be spread. For services that lack nothing great.
    """
    rows = 0
    known: dict[frozenset[int], int | None] = {}
    for version in IP_VERSIONS:
        found = effective_services([s for s in services if s.vip.version == version])
        for served in found.values():
            rows += 1
            if len(served) <= ROW_WIDTH:
                continue
            matches = frozenset(port_match(to, at) for to, at in served if at is not None)
            if matches not in known:
                known[matches] = _own_rows(matches)
            own = known[matches]
            if own is None:
                return None
            rows += own
    return rows


def _own_rows(matches: frozenset[int]) -> int | None:
    found = first_spread(np.array(sorted(matches), dtype=np.uint64), tight_spreads(len(matches)))
    return None if found is None else 1 << found[1]


@dataclass
class Served:
    """How many services a VIP serves, counted without a list of them.

    ``own`` are the ports of its own, by protocol (``None``: any); ``ports`` is how many ports it
    serves with those of the prefixes around it, ``open`` where it serves any.
    """

    own: dict[int, set[int | None]] = field(default_factory=dict)
    above: Served | None = None
    ports: dict[int, int] = field(default_factory=dict)
    open: frozenset[int] = frozenset()

    def serves(self, protocol: int, port: int) -> bool:
        """Whether it has a service for this very port, its own or one from above."""
        at: Served | None = self
        while at is not None:
            own = at.own.get(protocol, ())
            if port in own or None in own:
                return port in own
            at = at.above
        return False

    def count(self) -> None:
        """Count; what is above has been counted."""
        above = self.above
        self.open = frozenset(protocol for protocol, own in self.own.items() if None in own)
        self.ports = dict(above.ports) if above else {}
        for protocol, own in self.own.items():
            ports = [port for port in own if port is not None]
            if above is None or protocol in self.open:
                self.ports[protocol] = len(ports)
                continue
            new = sum(not above.serves(protocol, port) for port in ports)
            self.ports[protocol] = above.ports.get(protocol, 0) + new
        if above:
            self.open |= above.open


def served_counts(services: Iterable[Bound]) -> Iterator[Served]:
    """Yield what each VIP serves."""
    for version in IP_VERSIONS:
        found: dict[Vip, Served] = {}
        for service in services:
            if service.vip.version == version:
                served = found.setdefault(service.vip, Served())
                served.own.setdefault(service.protocol, set()).add(service.port)
        covering = Covering(found)
        for vip in sorted(found, key=lambda vip: vip.prefixlen):
            around = covering.of(vip)
            found[vip].above = found[around] if around is not None else None
            found[vip].count()
            yield found[vip]


def _least_rows(served: Served) -> int:
    ports = sum(served.ports.values())
    many = ports + len(served.open) > ROW_WIDTH
    return 1 + (1 << least_bits(ports)) if many else 1
