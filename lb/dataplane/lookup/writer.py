"""Writes services, VIPs and peers, so that a packet sees either all old ones or all new ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb.dataplane.lookup.exact import build_exact
from lb.dataplane.lookup.peers import fill_rows, peer_rows_of, views
from lb.dataplane.lookup.plan import Plan, ServiceAddress, check_view, make_plan
from lb.dataplane.lookup.vip_filter import build_filter
from lb.dataplane.lookup.vips import build_vips
from lb.dataplane.lookup.words import address_word
from lb.dataplane.maps.grace import Grace
from lb.dataplane.maps.state import State
from lb.dataplane.maps.tables import TableStore
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry, Vip

MAX_IPV4_LENGTH = 0xFFFF


def checksum_part(own: IPv4Address, other: IPv4Address) -> int:
    """`lb_dip.csum`: the sum of the words that are the same in all outer headers from `own`."""
    constant = bytes.fromhex("4500 0000 0000 4000 4011 0000")
    words = np.frombuffer(constant + own.packed + other.packed, dtype="<u2")
    total = int(words.sum(dtype=np.uint64))
    while total > 0xFFFF:  # noqa: PLR2004
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _choose_view(candidates: Iterator[int], leaves: Mapping[Vip, int]) -> tuple[int, NDArray[Any]]:
    """Return the first view word under which every VIP has a slot, and their table."""
    leaves4 = {vip: leaf for vip, leaf in leaves.items() if isinstance(vip, IPv4Network)}
    leaves6 = {vip: leaf for vip, leaf in leaves.items() if isinstance(vip, IPv6Network)}
    while True:
        view = next(candidates)
        vips = build_vips(leaves4, leaves6, view)
        if vips is not None:
            return view, vips


class ClusterTables:
    """Owner of the look-up tables, the DIP entries and the indices of services."""

    def __init__(
        self,
        state: State,
        pools: TableStore,
        zero_counters: Callable[[int], None],
        random_source: random.Random,
    ) -> None:
        self._state = state
        self._pools = pools
        self._zero_counters = zero_counters
        self._random = random_source
        self._spare = Grace()
        self._service_index: dict[ServiceAddress, int] = {}
        self.services: tuple[ServiceEntry, ...] = ()

    def index_of(self, service: ServiceEntry) -> int:
        """The index of a service's counters."""
        return self._service_index[service.address]

    def write_identity(self, identity: Identity) -> None:
        """Write this server's addresses and MTU, and the DIP entries' checksums."""
        config = self._state.config
        mac = identity.mac
        config["mac_head"] = int.from_bytes(mac[:2], "little") << 48
        config["mac_tail"] = int.from_bytes(mac[2:], "little")
        config["mac"] = int.from_bytes(mac, "little") << 16
        config["mtu"] = min(identity.mtu, MAX_IPV4_LENGTH)
        config["gue_port"] = identity.gue_port
        config["dip"] = int(identity.dip)
        for index in np.flatnonzero(self._state.dips["addr"]):
            self._write_dip(int(index), IPv4Address(int(self._state.dips["addr"][index])))

    def write(self, view: ClusterView, accepted: Callable[[], None] = lambda: None) -> None:
        """Write a view: DIP entries, the spare half, one word, then clear DIPs that are gone.

        Everything is computed first: a view that is refused has changed nothing. `accepted` is
        called when the view is certain to fit, before anything changes.

        Raises:
            DataplaneError: the tables cannot hold the view.

        """
        check_view(view)
        pools = self._pools.plan_ids(service.pool for service in view.services)
        plan = make_plan(view, pools, self._service_index)
        half = 1 - self._state.half
        addresses = plan.peers["addr"].view("<u4").astype(np.uint64)  # as they lie in a frame
        word, vips = _choose_view(views(half, addresses, self._random), plan.leaves)
        vip_filter = build_filter(plan.sets.keys(), word)
        exact = build_exact(plan.sets, word)
        accepted()
        self._spare.wait()
        self._pools.give_ids(pools)
        self._write_dips(view.dips)
        self._take_indices(plan)
        rows = peer_rows_of(word, addresses)
        fill_rows(self._state.peers[half], rows, plan.peers)
        self._state.services[half] = plan.rows
        self._state.vip_filter[half] = vip_filter
        self._state.exact[half] = exact
        self._state.vips[half] = vips
        self._state.config["view"] = np.uint64(word)
        self._spare.begin()
        self.services = view.services
        self._clear_dips(view.dips)

    def _write_dip(self, index: int, address: IPv4Address) -> None:
        own = IPv4Address(int(self._state.config["dip"]))
        word = address_word(address) | checksum_part(own, address) << 32
        self._state.dip_words[index, 0] = np.uint64(word)

    def _write_dips(self, dips: Mapping[int, IPv4Address]) -> None:
        for index, address in dips.items():
            if int(self._state.dips["addr"][index]) == int(address):
                continue
            # the old address's MAC must never be used with the new address
            self._state.dip_words[index, 1] = np.uint64(0)
            self._write_dip(index, address)

    def _clear_dips(self, dips: Mapping[int, IPv4Address]) -> None:
        for index in np.flatnonzero(self._state.dips["addr"]):
            if int(index) not in dips:
                self._state.dip_words[index, 0] = np.uint64(0)
                self._state.dip_words[index, 1] = np.uint64(0)

    def _take_indices(self, plan: Plan) -> None:
        """Services that stay keep their counters; a new one begins at zero."""
        for address, index in plan.indices.items():
            if address not in self._service_index:
                self._zero_counters(index)
        for index in set(self._service_index.values()) - plan.names.keys():
            self._state.names["version"][index] = 0
        for index, name in plan.names.items():
            self._state.names[index] = name
        self._service_index = plan.indices

    def write_neighbour(self, index: int, mac: bytes | None) -> None:
        """Write a DIP's next-hop MAC in one store; None: unknown."""
        word = 0 if mac is None else int.from_bytes(mac, "little")
        self._state.dip_words[index, 1] = np.uint64(word)
