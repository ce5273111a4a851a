"""Writes services, VIPs, known DIPs and probers, so that a packet sees all old ones or all new."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.front import build_front
from lb.dataplane.grace import Grace
from lb.dataplane.lookup import (
    KnownSlot,
    address_word,
    fill_rows,
    known_records,
    known_rows_of,
    views,
)
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry, Vip
from lb.dataplane.service_names import name_record
from lb.dataplane.services import Slot, effective_services, lay_out, service_flags, service_match
from lb.dataplane.state import State
from lb.dataplane.vips import build_vips

MAX_IPV4_LENGTH = 0xFFFF
IP_VERSIONS = (4, 6)
ServiceAddress = tuple[Vip, int, int | None]


def checksum_part(own: IPv4Address, other: IPv4Address) -> int:
    """`lb_dip.csum`: the sum over what no packet changes in an outer header from `own`."""
    constant = bytes.fromhex("4500 0000 0000 4000 4011 0000")
    words = np.frombuffer(constant + own.packed + other.packed, dtype="<u2")
    total = int(words.sum(dtype=np.uint64))
    while total > 0xFFFF:  # noqa: PLR2004
        total = (total & 0xFFFF) + (total >> 16)
    return total


def check_view(view: ClusterView) -> None:
    """Refuse what the tables cannot hold.

    Raises:
        DataplaneError: too many of something, an index out of range, or one thing twice.

    """
    if len(view.services) > abi.MAX_SERVICES:
        raise DataplaneError(f"{len(view.services)} services: at most {abi.MAX_SERVICES}")
    if len({service.address for service in view.services}) != len(view.services):
        raise DataplaneError("two services have one VIP, protocol and port")
    if any(not 0 < index < abi.MAX_DIPS for index in view.dips):
        raise DataplaneError(f"DIP indices go from 1 to {abi.MAX_DIPS - 1}")
    if len(set(view.dips.values())) != len(view.dips):
        raise DataplaneError("two DIP indices have one address")
    if any(not int(address) for address in (*view.dips.values(), *view.probers)):
        raise DataplaneError("0.0.0.0 is no DIP and no prober")
    if len(set(view.dips.values()) | view.probers) > abi.MAX_DIPS:
        raise DataplaneError(f"more than {abi.MAX_DIPS} DIPs and probers")


def _choose_view(candidates: Iterator[int], leaves: Mapping[Vip, int]) -> tuple[int, NDArray[Any]]:
    """The first view word under which all VIPs have a place, and their table."""
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
        pool_id: Callable[[str], int],
        zero_counters: Callable[[int], None],
        random_source: random.Random,
    ) -> None:
        self._state = state
        self._pool_id = pool_id
        self._zero_counters = zero_counters
        self._random = random_source
        self._spare = Grace()
        self._service_index: dict[ServiceAddress, int] = {}
        self.services: tuple[ServiceEntry, ...] = ()

    def index_of(self, service: ServiceEntry) -> int:
        """The index of a service's counters."""
        return self._service_index[service.address]

    def write_identity(self, identity: Identity) -> None:
        """Write who this server is, and what follows from it in every DIP entry."""
        config = self._state.config
        mac = identity.mac
        config["mac_head"] = int.from_bytes(mac[:2], "little") << 48
        config["mac_tail"] = int.from_bytes(mac[2:], "little")
        config["mtu"] = min(identity.mtu, MAX_IPV4_LENGTH)
        config["gue_port"] = identity.gue_port
        config["dip"] = int(identity.dip)
        for index in np.flatnonzero(self._state.dips["addr"]):
            self._write_dip(int(index), IPv4Address(int(self._state.dips["addr"][index])))

    def write(self, view: ClusterView) -> None:
        """Bring the tables to a view: DIP entries, the spare half, one word, then what is gone."""
        check_view(view)
        self._spare.wait()
        self._write_dips(view.dips)
        self._assign_indices(view)
        half = 1 - self._state.half
        known = self._known_slots(view)
        addresses = np.array([address_word(slot.address) for slot in known], dtype=np.uint64)
        sets = self._sets(view)
        rows, leaves = lay_out(list(sets.values()))
        word, vips = _choose_view(
            views(half, addresses, self._random), dict(zip(sets, leaves, strict=True))
        )
        fill_rows(self._state.known[half], known_rows_of(word, addresses), known_records(known))
        self._state.services[half] = rows
        self._state.front[half] = build_front(sets, word)
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
            # the MAC of what the index named before must not meet the new address
            self._state.dip_words[index, 1] = np.uint64(0)
            self._write_dip(index, address)

    def _clear_dips(self, dips: Mapping[int, IPv4Address]) -> None:
        for index in np.flatnonzero(self._state.dips["addr"]):
            if int(index) not in dips:
                self._state.dip_words[index, 0] = np.uint64(0)
                self._state.dip_words[index, 1] = np.uint64(0)

    def _assign_indices(self, view: ClusterView) -> None:
        """Services that stay keep their counters; a new one begins at zero."""
        wanted = {service.address for service in view.services}
        for address in self._service_index.keys() - wanted:
            self._state.names["version"][self._service_index.pop(address)] = 0
        used = set(self._service_index.values())
        free = (index for index in range(abi.MAX_SERVICES) if index not in used)
        for service in view.services:
            if service.address not in self._service_index:
                index = next(free)
                self._zero_counters(index)
                self._service_index[service.address] = index

    def _slot(self, service: ServiceEntry) -> Slot:
        return Slot(
            match=service_match(service.protocol, service.port),
            service=self.index_of(service),
            pool=self._pool_id(service.pool),
            flags=service_flags(service),
        )

    def _sets(self, view: ClusterView) -> dict[Vip, list[Slot]]:
        """What each VIP serves: entries with a port first."""
        slots = {service.address: self._slot(service) for service in view.services}
        for service in view.services:
            self._state.names[self.index_of(service)] = name_record(
                service, self._pool_id(service.pool)
            )
        sets = {}
        for version in IP_VERSIONS:
            services = [s for s in view.services if s.vip.version == version]
            for vip, served in effective_services(services).items():
                found = (slots[entry.address] for entry in served.values())
                sets[vip] = sorted(found, key=lambda slot: slot.match)
        return sets

    def _known_slots(self, view: ClusterView) -> list[KnownSlot]:
        slots = [
            KnownSlot(
                address,
                index,
                abi.KNOWN_DIP | (abi.KNOWN_PROBER if address in view.probers else 0),
            )
            for index, address in view.dips.items()
        ]
        others = sorted(view.probers - set(view.dips.values()))
        return slots + [KnownSlot(address, 0, abi.KNOWN_PROBER) for address in others]

    def write_neighbour(self, index: int, mac: bytes | None) -> None:
        """Write a DIP's next-hop MAC in one store; None: unknown."""
        word = 0 if mac is None else int.from_bytes(mac, "little") | abi.MAC_KNOWN
        self._state.dip_words[index, 1] = np.uint64(word)
