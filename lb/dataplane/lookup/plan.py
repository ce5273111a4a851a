"""The contents of the look-up tables for a cluster view, computed before any byte changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.lookup_capacity import IP_VERSIONS, find_certain_shortage
from controlplane.domain.service_rows import effective_services
from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.lookup.names import name_record
from lb.dataplane.lookup.rows import Slot, lay_out, service_flags, service_match
from lb.dataplane.objects import ClusterView, ServiceEntry, Vip

ServiceAddress = tuple[Vip, int, int | None]
Indices = Mapping[ServiceAddress, int]


@dataclass(frozen=True)
class Plan:
    """The contents of a view that fits; only the hash functions are still to be chosen.

    ``indices``: counters by service. ``names``: `struct lb_service_name`
    by index. ``sets`` and ``leaves``: by VIP, its services and the leaf that leads to them.
    """

    indices: dict[ServiceAddress, int]
    names: Mapping[int, NDArray[Any]]
    peers: NDArray[Any]
    sets: Mapping[Vip, list[Slot]]
    leaves: Mapping[Vip, int]
    rows: NDArray[Any]


def check_view(view: ClusterView) -> None:
    """Refuse a view that the tables cannot hold.

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
        raise DataplaneError("0.0.0.0 is neither a DIP nor a prober")
    if len(set(view.dips.values()) | view.probers) > abi.MAX_DIPS:
        raise DataplaneError(f"more than {abi.MAX_DIPS} DIPs and probers")
    lack = find_certain_shortage(view.services)
    if lack:
        raise DataplaneError(lack)


def make_plan(view: ClusterView, pools: Mapping[str, int], indices: Indices) -> Plan:
    """Compute the contents for a checked view; `indices` are those of the services in use.

    Raises:
        DataplaneError: the services do not fit.

    """
    numbers = next_indices(view.services, indices)
    slots = {
        service.address: Slot(
            match=service_match(service.protocol, service.port),
            service=numbers[service.address],
            pool=pools[service.pool],
            flags=service_flags(service),
        )
        for service in view.services
    }
    sets = _sets(view.services, slots)
    rows, leaves = lay_out(list(sets.values()))
    return Plan(
        indices=numbers,
        names={numbers[s.address]: name_record(s, pools[s.pool]) for s in view.services},
        peers=peers_of(view),
        sets=sets,
        leaves=dict(zip(sets, leaves, strict=True)),
        rows=rows,
    )


def next_indices(services: Iterable[ServiceEntry], indices: Indices) -> dict[ServiceAddress, int]:
    """Return the index of each service's counters: services that stay keep theirs.

    Packets in flight still count under indices that are freed now: a new service gets one of them
    only if all others are in use.
    """
    wanted = [service.address for service in services]
    kept = {address: indices[address] for address in wanted if address in indices}
    live = set(indices.values())
    idle = (index for index in range(abi.MAX_SERVICES) if index not in live)
    free = chain(idle, sorted(live - set(kept.values())))
    return {address: kept[address] if address in kept else next(free) for address in wanted}


def _sets(
    services: Iterable[ServiceEntry], slots: Mapping[ServiceAddress, Slot]
) -> dict[Vip, list[Slot]]:
    """The services of each VIP: entries with a port first."""
    sets = {}
    for version in IP_VERSIONS:
        of_version = [service for service in services if service.vip.version == version]
        for vip, served in effective_services(of_version).items():
            found = (slots[entry.address] for entry in served.values())
            sets[vip] = sorted(found, key=lambda slot: slot.match)
    return sets


def peers_of(view: ClusterView) -> NDArray[Any]:
    """Who may send GUE, as `struct lb_peer`: DIPs, and probers that are not DIPs."""
    dips = [
        (int(dip), index, abi.PEER_DIP | (abi.PEER_PROBER if dip in view.probers else 0))
        for index, dip in view.dips.items()
    ]
    others = sorted(view.probers - set(view.dips.values()))
    probers = [(int(address), 0, abi.PEER_PROBER) for address in others]
    return np.array(dips + probers, dtype=abi.PEER)
