"""Whether services fit in a server's look-up tables: one rule for settings and data plane. Pure.

Limits: nodes of the trie for IPv4 VIPs, rows of services, lengths of IPv6 prefixes.
``find_shortage`` finds a shortage if, and only if, the tables cannot be built.
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
    ParentVips,
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
    """Return what is short for these services, with the remedy; ``None``: they fit."""
    shortage = find_certain_shortage(services)
    if shortage is None:
        rows = rows_needed(services)
        if rows is None:
            shortage = f"too many on one VIP: {FEWER}"
        elif rows > SERVICE_ROWS:
            shortage = _too_many_rows(rows)
    return shortage


def find_certain_shortage(services: Sequence[Bound]) -> str | None:
    """Return a shortage that counting alone finds, within milliseconds for any services.

    Services that pass take little memory to lay out, and may still be a few rows too many.
    """
    vips = {service.vip for service in services}
    lengths = sorted(ipv6_lengths(vips))
    if len(lengths) > MAX_IPV6_LENGTHS:
        have = ", ".join(f"/{length}" for length in lengths)
        return f"IPv6 VIPs must have at most {MAX_IPV6_LENGTHS} prefix lengths, not {have}"
    nodes = trie_nodes(vip for vip in vips if isinstance(vip, IPv4Network))
    if nodes > TRIE_NODES:
        return (
            f"the IPv4 VIPs are in too many different networks: they need {nodes:,} look-up nodes "
            f"of {TRIE_NODES:,} (one for each /24 and each /16 with VIPs); "
            "use neighbouring VIPs, or prefixes"
        )
    rows = sum(_least_rows(served) for served in served_counts(services))
    return _too_many_rows(rows) if rows > SERVICE_ROWS else None


def _too_many_rows(rows: int) -> str:
    return (
        f"the services of all VIPs, those of covering prefixes included, need {rows:,} rows of "
        f"{SERVICE_ROWS:,}; {FEWER}"
    )


def trie_nodes(vips: Iterable[IPv4Network]) -> int:
    """Return how many nodes of 256 entries a trie of different IPv4 VIPs needs.

    These are: the empty node; one for each /16 and one for each /24 that contains longer prefixes;
    one for each prefix that fills whole /24s (they share it), two if it fills whole /16s.
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
    """Return how many rows the services need at least.

    ``None``: the services of one VIP cannot be spread. Call ``find_certain_shortage`` before.
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
    """How many services a VIP has, counted without a list of them.

    ``own``: ports of its own services, by protocol (``None``: any). ``ports``: how many ports it
    has with those of covering prefixes, by protocol. ``open``: protocols with any port.
    """

    own: dict[int, set[int | None]] = field(default_factory=dict)
    above: Served | None = None
    ports: dict[int, int] = field(default_factory=dict)
    open: frozenset[int] = frozenset()

    def serves(self, protocol: int, port: int) -> bool:
        """Whether it has a service with this port, its own or one of a covering prefix."""
        at: Served | None = self
        while at is not None:
            own = at.own.get(protocol, ())
            if port in own or None in own:
                return port in own
            at = at.above
        return False

    def count(self) -> None:
        """Count; ``above`` must be counted before."""
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
    """Yield the counts of each VIP."""
    for version in IP_VERSIONS:
        found: dict[Vip, Served] = {}
        for service in services:
            if service.vip.version == version:
                served = found.setdefault(service.vip, Served())
                served.own.setdefault(service.protocol, set()).add(service.port)
        parents = ParentVips(found)
        for vip in sorted(found, key=lambda vip: vip.prefixlen):
            around = parents.of(vip)
            found[vip].above = found[around] if around is not None else None
            found[vip].count()
            yield found[vip]


def _least_rows(served: Served) -> int:
    ports = sum(served.ports.values())
    many = ports + len(served.open) > ROW_WIDTH
    return 1 + (1 << least_bits(ports)) if many else 1
