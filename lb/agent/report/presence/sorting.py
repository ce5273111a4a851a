"""Sorts sockets: to which service, pool and bucket each belongs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import TCP, Service, Vip
from lb.agent.report.presence.sockets import Sockets
from lb.flow_hashes import FlowColumns, Words, client_hashes, flow_hashes, states_of
from lb.led_here import Steering

ADDRESS_BITS = {4: 32, 6: 128}
CLIENT = "client"
"""The hash mode of a pool whose buckets depend on the client's address alone."""
NONE = -1
MOST_REMEMBERED = 1 << 16
"""Local addresses and ports whose service is remembered: a prefix has many."""


class ServiceFinder:
    """The service of a local address and port: longest prefix; of one prefix, the port before any.

    Not one that is stateless: its flows belong to no server.
    """

    def __init__(self, services: Sequence[Service]) -> None:
        found: defaultdict[tuple[int, int, int], dict[tuple[int, int | None], int]]
        found = defaultdict(dict)
        for number, service in enumerate(services):
            vip = service.vip
            shift = vip.max_prefixlen - vip.prefixlen
            kept = number if service.protocol == TCP or not service.stateless else NONE
            of = found[service.protocol, vip.version, shift]
            of[int(vip.network_address) >> shift, service.port] = kept
        self._services = sorted(found.items(), key=lambda item: item[0])  # longest prefixes first
        self.protocols = frozenset(
            s.protocol for s in services if s.protocol == TCP or not s.stateless
        )

    def find(self, protocol: int, packed: bytes, port: int) -> int:
        """Return the number of the service of this address, of 4 or 16 bytes; -1 for none."""
        bits = 8 * len(packed)
        address = int.from_bytes(packed, "big")
        for (of, version, shift), services in self._services:
            if of != protocol or ADDRESS_BITS[version] != bits:
                continue
            for wanted in (port, None):
                kept = services.get((address >> shift, wanted))
                if kept is not None:
                    return kept
        return NONE


class OwnAddresses:
    """Addresses that every server has: VIPs, and the DIP. A client with one is on this server."""

    def __init__(self, vips: Iterable[Vip], dip: IPv4Address | None) -> None:
        prefixes: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for vip in vips:
            shift = vip.max_prefixlen - vip.prefixlen
            prefixes[ADDRESS_BITS[vip.version], shift].add(int(vip.network_address) >> shift)
        if dip is not None:
            prefixes[32, 0].add(int(dip))
        self._prefixes = dict(prefixes)

    def __contains__(self, packed: bytes) -> bool:
        """Whether this address, of 4 or 16 bytes, is one."""
        bits, number = 8 * len(packed), int.from_bytes(packed, "big")
        return any(
            bits == of and number >> shift in found for (of, shift), found in self._prefixes.items()
        )


class Sorter:
    """Sorts by one state of the documents in use.

    Pools are numbered as in ``pools``; bucket b of pool p is at ``offsets[p] + b`` of ``total``.
    """

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        services = steering.services
        self.pools = tuple(steering.pools.values())
        self.pool_names = tuple(steering.pools)
        numbers = {name: number for number, name in enumerate(steering.pools)}
        self.pool_of = np.array([numbers.get(s.pool, NONE) for s in services] or [NONE], np.int32)
        sizes = [len(here.leads) for here in self.pools]
        self.offsets = np.cumsum([0, *sizes])[:-1].astype(np.int64)
        self.total = sum(sizes)
        self.finder = ServiceFinder(services)
        self.own = OwnAddresses((s.vip for s in services), steering.dip)
        self._masks = np.array([size - 1 for size in sizes], np.uint64)
        self._states = states_of([here.key for here in self.pools])
        self._by_client = np.array([here.pool.hash_mode == CLIENT for here in self.pools], np.bool_)
        self._known: dict[tuple[int, int, int, int], int] = {}

    def services_of(self, sockets: Sockets, protocol: int) -> NDArray[np.int32]:
        """Return the number of each socket's service, -1 for none."""
        flows = sockets.flows
        local = flows.destination
        own = (flows.source == local).all(axis=1)  # a check of this server's own: no client
        groups, first = _groups(local[:, 0], local[:, 1], sockets.local_port)
        found = np.array([self._service(sockets, at, protocol) for at in first], np.int32)[groups]
        return np.where(own, np.int32(NONE), found)

    def _service(self, sockets: Sockets, at: int, protocol: int) -> int:
        low, high = (int(word) for word in sockets.flows.destination[at])
        is_ipv4, port = bool(sockets.flows.is_ipv4[at]), int(sockets.local_port[at])
        key = (protocol + (is_ipv4 << 8), low, high, port)
        service = self._known.get(key)
        if service is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            service = self.finder.find(protocol, packed(low, high, is_ipv4=is_ipv4), port)
            self._known[key] = service
        return service

    def buckets_of(self, flows: FlowColumns, pools: NDArray[np.int32], protocol: int) -> Words:
        """Return each flow's bucket in its pool."""
        states = self._states[pools]
        by_client = self._by_client[pools]
        hashes = np.empty(len(pools), np.uint64)
        if by_client.any():
            hashes[by_client] = client_hashes(flows.chosen(by_client), states[by_client])
        rest = ~by_client
        if rest.any():
            hashes[rest] = flow_hashes(flows.chosen(rest), states[rest], protocol)
        buckets: Words = hashes & self._masks[pools]
        return buckets

    def names_of(self, flows: FlowColumns, pools: NDArray[np.int32]) -> Words:
        """Return the hashes by which servers name these TCP flows to each other."""
        return flow_hashes(flows, self._states[pools], TCP)


def packed(low: int, high: int, *, is_ipv4: bool) -> bytes:
    """Return an address as the bytes of a packet, from the two words of a column."""
    if is_ipv4:
        return low.to_bytes(4, "little")
    return low.to_bytes(8, "little") + high.to_bytes(8, "little")


def _groups(
    low: Words, high: Words, ports: NDArray[np.uint16]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the distinct rows; return each row's number, and where each number is first."""
    order = np.lexsort((ports, high, low))
    rows = (low[order], high[order], ports[order])
    new = np.ones(len(order), np.bool_)
    new[1:] = np.logical_or.reduce([row[1:] != row[:-1] for row in rows])
    groups = np.empty(len(order), np.intp)
    groups[order] = np.cumsum(new) - 1
    return groups, order[new]
