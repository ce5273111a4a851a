"""A view that the tables cannot hold has changed nothing at all; one that they can, everything."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import numpy as np
import pytest

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.lookup.writer import ClusterTables
from lb.dataplane.maps import grace
from lb.dataplane.maps.state import State
from lb.dataplane.maps.tables import TableStore
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from tests.fuzz.offline import HeldTables

DIP1, DIP2, DIP3 = (IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3))
NET = int(IPv4Address("20.0.0.0"))


def web(vip: str, port: int | None = 80, pool: str = "web") -> ServiceEntry:
    network = IPv6Network(vip) if ":" in vip else IPv4Network(vip)
    return ServiceEntry(network, 6, port, pool)


LIVE = ClusterView((web("192.0.2.1"), web("192.0.2.2"), web("2001:db8::1")), {1: DIP1, 2: DIP2})


@dataclass
class Rig:
    """Tables in plain memory; ``zeroed`` are the counters that were set to zero."""

    fd: int
    state: State
    store: TableStore
    zeroed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = ClusterTables(self.state, self.store, self.zeroed.append, random.Random(1))

    def memory(self) -> bytes:
        return os.pread(self.fd, abi.STATE.itemsize, 0)

    def names(self) -> dict[int, bytes]:
        used = np.flatnonzero(self.state.names["version"])
        return {int(index): self.state.names[index].tobytes() for index in used}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.0)
    fd = os.memfd_create("lb_state")
    os.truncate(fd, -(-abi.STATE.itemsize // 4096) * 4096)
    state = State(fd)
    made = Rig(fd, state, TableStore(state, HeldTables()))
    made.tables.write_identity(Identity(DIP1, bytes(range(6)), 1500, 1))
    made.tables.write(LIVE)
    yield made
    made.store.close()
    state.close()
    os.close(fd)


def scattered(count: int) -> tuple[ServiceEntry, ...]:
    """VIPs of which no two share their first two bytes."""
    return tuple(
        ServiceEntry(IPv4Network(NET + (n << 16) + (n << 8) + 1), 6, 80, "web")
        for n in range(count)
    )


def inherited(ports: int, hosts: int) -> tuple[ServiceEntry, ...]:
    """Single addresses that all serve what the prefix around them does."""
    prefix = IPv4Network("20.0.0.0/22")
    return (
        *(ServiceEntry(prefix, 6, port, "web") for port in range(1, ports + 1)),
        *(ServiceEntry(IPv4Network(NET + n), 6, 80, "web") for n in range(hosts)),
    )


SERVICES = {
    "more services than there can be": tuple(web("192.0.2.1", p) for p in range(1, 4098)),
    "one twice": (web("192.0.2.9"), web("192.0.2.9", pool="dns")),
    "a pool's name too long": (web("192.0.2.9", pool="p" * 64),),
    "too many pools": tuple(web("192.0.2.9", p, f"p{p}") for p in range(1, 258)),
    "too many networks": scattered(1024),
    "too many rows": inherited(200, 800),
    "too many rows, found in laying them out": inherited(256, 127),
    "too many lengths": tuple(web(f"2001:db8::/{length}") for length in range(32, 41)),
}
DIPS = {
    "an index too high": {1: DIP1, abi.MAX_DIPS: DIP3},
    "an address twice": {1: DIP1, 2: DIP3, 3: DIP3},
    "no address": {1: DIP1, 2: IPv4Address(0)},
}
REFUSED = {
    **{what: ClusterView(services, {1: DIP3, 4: DIP2}) for what, services in SERVICES.items()},
    **{what: ClusterView((web("192.0.2.7"),), dips) for what, dips in DIPS.items()},
    "too many addresses": ClusterView(
        (web("192.0.2.7"),), {1: DIP3}, frozenset(IPv4Address(NET + n) for n in range(1, 4098))
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_view_has_changed_nothing(rig: Rig, what: str) -> None:
    before, zeroed = rig.memory(), list(rig.zeroed)
    indices = {service: rig.tables.index_of(service) for service in LIVE.services}
    accepted: list[str] = []
    with pytest.raises(DataplaneError):
        rig.tables.write(REFUSED[what], lambda: accepted.append(what))
    assert rig.memory() == before
    assert rig.zeroed == zeroed
    assert accepted == []
    assert rig.tables.services == LIVE.services
    assert {service: rig.tables.index_of(service) for service in LIVE.services} == indices
    rig.tables.write(LIVE)
    assert rig.store.plan_ids(["web", "new"]) == {"web": 0, "new": 1}


def test_what_goes_before_a_view_goes_before_its_first_byte(rig: Rig) -> None:
    before = rig.memory()
    seen: list[bytes] = []
    rig.tables.write(replace(LIVE, dips={1: DIP3}), lambda: seen.append(rig.memory()))
    assert seen == [before]
    assert rig.memory() != before


def test_what_goes_before_a_view_can_fail_and_nothing_has_changed(rig: Rig) -> None:
    def fail() -> None:
        raise OSError("no netlink")

    before = rig.memory()
    with pytest.raises(OSError, match="no netlink"):
        rig.tables.write(replace(LIVE, dips={1: DIP3}), fail)
    assert rig.memory() == before


def test_services_that_stay_keep_their_counters_and_new_ones_begin_at_zero(rig: Rig) -> None:
    first, second, third = LIVE.services
    kept = rig.tables.index_of(second)
    rig.zeroed.clear()
    new = web("192.0.2.5")
    rig.tables.write(replace(LIVE, services=(replace(second, pool="dns"), new)))
    assert rig.tables.index_of(second) == kept
    assert rig.zeroed == [rig.tables.index_of(new)]
    assert rig.names().keys() == {kept, rig.tables.index_of(new)}
    with pytest.raises(KeyError):
        rig.tables.index_of(first)
    rig.zeroed.clear()
    rig.tables.write(LIVE)
    assert sorted(rig.zeroed) == sorted(map(rig.tables.index_of, (first, third)))


def test_packets_on_their_way_count_for_the_service_that_is_gone(rig: Rig) -> None:
    """The index of a service that goes is not given away in the write that takes it out."""
    gone = {rig.tables.index_of(service) for service in LIVE.services}
    new = tuple(web("192.0.2.5", port) for port in (80, 81, 82))
    rig.tables.write(replace(LIVE, services=new))
    assert not gone & {rig.tables.index_of(service) for service in new}
    rig.tables.write(LIVE)
    assert {rig.tables.index_of(service) for service in LIVE.services} == gone


def test_with_all_indices_in_use_one_that_is_given_up_serves_again(rig: Rig) -> None:
    full = tuple(web("192.0.2.1", port) for port in range(1, abi.MAX_SERVICES + 1))
    rig.tables.write(replace(LIVE, services=full))
    given_up = rig.tables.index_of(full[7])
    rig.zeroed.clear()
    new = web("192.0.2.1", None)
    rig.tables.write(replace(LIVE, services=(*full[:7], *full[8:], new)))
    assert rig.tables.index_of(new) == given_up
    assert rig.zeroed == [given_up]
