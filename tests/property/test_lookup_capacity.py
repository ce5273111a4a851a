"""What the controller's rule lets pass, servers can lay out; what it refuses, they cannot."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain import lookup_capacity as capacity
from controlplane.domain import service_rows
from controlplane.domain import vips as vip_rules
from controlplane.domain.lookup_capacity import (
    find_certain_shortage,
    find_shortage,
    rows_needed,
    trie_nodes,
)
from controlplane.domain.service_rows import effective_services
from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.lookup.plan import make_plan
from lb.dataplane.lookup.vips import Trie, build_vips
from lb.dataplane.objects import ClusterView, ServiceEntry, Vip

BASE = int(IPv4Address("20.0.0.0"))
BASE6 = int(IPv6Address("2001:db8::"))
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def builds(services: list[ServiceEntry]) -> bool:
    """Whether the data plane's builders lay these out, whatever was counted before."""
    try:
        plan = make_plan_unasked(services)
        leaves4 = {vip: leaf for vip, leaf in plan.items() if isinstance(vip, IPv4Network)}
        leaves6 = {vip: leaf for vip, leaf in plan.items() if isinstance(vip, IPv6Network)}
        return any(build_vips(leaves4, leaves6, view) is not None for view in range(3, 99, 2))
    except DataplaneError:
        return False


def make_plan_unasked(services: list[ServiceEntry]) -> dict[Vip, int]:
    return dict(make_plan(ClusterView(tuple(services)), {"web": 0}, {}).leaves)


def entry(vip: Vip, port: int | None, protocol: int = 6) -> ServiceEntry:
    return ServiceEntry(vip, protocol, port, "web")


def v4(offset: int, length: int = 32) -> IPv4Network:
    return IPv4Network((BASE + offset & ~((1 << 32 - length) - 1) & 0xFFFFFFFF, length))


def v6(offset: int, length: int = 128) -> IPv6Network:
    return IPv6Network((BASE6 + offset & ~((1 << 128 - length) - 1), length))


@st.composite
def nested(draw: st.DrawFn) -> list[ServiceEntry]:
    """Single VIPs, all over or close together, in prefixes that serve many ports."""
    found: dict[tuple[Vip, int, int | None], ServiceEntry] = {}

    def add(vip: Vip, port: int | None, protocol: int) -> None:
        made = entry(vip, port, protocol)
        found[made.address] = made

    makers: tuple[Callable[[int, int], Vip], ...] = (v4, v6)
    make = draw(st.sampled_from(makers))
    lengths = (8, 12, 16, 20, 24, 28) if make is v4 else (32, 48, 64, 96, 120)
    protocols = st.sampled_from((6, 17))
    for length in draw(st.lists(st.sampled_from(lengths), max_size=3)):
        step = draw(st.sampled_from((1, 7, 256)))
        protocol = draw(protocols)
        for port in range(1, 1 + step * draw(st.integers(1, 255)), step):
            add(make(0, length), port, protocol)
        if draw(st.booleans()):
            add(make(0, length), None, draw(protocols))
    apart = draw(st.sampled_from((1, 1 << 8, (1 << 8) + 1, 1 << 16, (1 << 16) + (1 << 8))))
    protocol = draw(protocols)
    for number in range(draw(st.integers(0, 700))):
        add(make(number * apart, 128 if make is v6 else 32), number % 3 or None, protocol)
    return list(found.values())


@FEW
@given(nested())
def test_the_rule_and_the_builders_agree(services: list[ServiceEntry]) -> None:
    lack = find_shortage(services)
    if find_certain_shortage(services) is not None:
        assert lack
        entries = sum(map(len, effective_of_both(services)))
        if entries > 1 << 20:
            return  # the builders would refuse after a minute
    assert (lack is None) == builds(services), lack


def effective_of_both(services: list[ServiceEntry]) -> list[dict[tuple[int, int | None], object]]:
    found: list[dict[tuple[int, int | None], object]] = []
    for version in capacity.IP_VERSIONS:
        served = effective_services([s for s in services if s.vip.version == version])
        found.extend(dict(entries) for entries in served.values())
    return found


PREFIXES = st.builds(
    v4,
    st.integers(0, (1 << 19) - 1),
    st.sampled_from((8, 13, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32)),
)


@given(st.sets(PREFIXES, max_size=60))
def test_nodes_are_counted_as_the_trie_takes_them(vips: set[IPv4Network]) -> None:
    trie = Trie()
    for vip in sorted(vips, key=lambda vip: vip.prefixlen):
        trie.add(vip, abi.TRIE_LEAF)
    assert trie.used == trie_nodes(vips)


SMALL = st.lists(
    st.builds(
        entry,
        st.builds(v4, st.integers(0, 255), st.sampled_from((24, 28, 31, 32))),
        st.one_of(st.none(), st.integers(1, 12)),
        st.sampled_from((6, 17)),
    ),
    max_size=80,
    unique_by=lambda service: service.address,
)


@given(SMALL)
def test_services_are_counted_as_they_are_listed(services: list[ServiceEntry]) -> None:
    served = effective_services(services)
    listed = sorted(
        (sum(port is not None for _, port in entries), sum(port is None for _, port in entries))
        for entries in served.values()
    )
    counted = sorted((sum(s.ports.values()), len(s.open)) for s in capacity.served_counts(services))
    assert counted == listed


def scattered(count: int) -> list[ServiceEntry]:
    return [entry(v4((n << 16) + (n << 8 & 0xFF00)), 80) for n in range(count)]


def together(count: int) -> list[ServiceEntry]:
    return [entry(v4(n << 8), 80) for n in range(count)]


@pytest.mark.parametrize(
    ("make", "most"),
    [(scattered, (abi.TRIE_NODES - 1) // 2), (together, abi.TRIE_NODES - 1 - 4)],
)
def test_the_last_network_that_fits(make: Callable[[int], list[ServiceEntry]], most: int) -> None:
    assert find_shortage(make(most)) is None
    assert builds(make(most))
    lack = find_shortage(make(most + 1))
    assert lack
    assert "different networks" in lack
    assert not builds(make(most + 1))


@pytest.mark.parametrize("hosts", [126, 127])
def test_the_last_rows_that_fit(hosts: int) -> None:
    ports = [entry(v4(0, 24), port) for port in range(1, 257)]
    services = ports + [entry(v4(n), 443) for n in range(hosts)]
    rows = rows_needed(services)
    assert rows
    assert (find_shortage(services) is None) == (rows <= abi.SERVICE_ROWS) == builds(services)


def test_as_many_services_as_there_can_be_fit() -> None:
    close = [
        entry(v4(a << 16 | b << 8 | c), 80)
        for a, b, c in islice(product(range(4), range(200), range(1, 255)), abi.MAX_SERVICES)
    ]
    assert find_shortage(close) is None
    assert find_shortage([entry(v6(n << 64), 80) for n in range(abi.MAX_SERVICES)]) is None
    assert find_shortage([entry(v4(0), port) for port in range(1, abi.MAX_SERVICES + 1)]) is None


def test_what_would_take_gigabytes_is_refused_by_counting() -> None:
    half = abi.MAX_SERVICES // 2
    services = [entry(v4(0, 16), port) for port in range(1, half + 1)]
    services += [entry(v4(n), 443) for n in range(half)]
    lack = find_certain_shortage(services)
    assert lack
    assert "fewer services on prefixes" in lack


def test_both_sides_mean_the_same_tables() -> None:
    assert (capacity.TRIE_NODES, capacity.SERVICE_ROWS) == (abi.TRIE_NODES, abi.SERVICE_ROWS)
    assert (service_rows.ROW_WIDTH, vip_rules.MAX_IPV6_LENGTHS) == (
        abi.SERVICE_WIDTH,
        abi.VIP6_LENGTHS,
    )
