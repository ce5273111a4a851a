"""To which pool a flow with a reset belongs, its name, and what the tables did to its bucket."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import TCP, HashMode, Pool, Server, ServerState, Service, Table
from lb import abi
from lb.agent.report.orphans.sorting import RECENT_SECONDS, Kind, Orphan, flows_of, orphans_of
from lb.agent.report.presence.sorting import Sorter
from lb.led_here import PoolHere, Steering, pool_here
from tests.model.flow import Flow, bucket_of
from tests.unit.lb.flows import swapped, words

VIP, VIP6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
OWN = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
KEY = bytes(range(16))
BUCKETS = 256
SERVICES = (
    Service("web", IPv4Network(VIP), TCP, 80, "web"),
    Service("web6", IPv6Network(VIP6), TCP, 443, "web"),
    Service("late", IPv4Network(VIP), TCP, 81, "no table yet"),
)


def here(
    chains: dict[int, Sequence[int]],
    now: float,
    before: PoolHere | None = None,
    dead: Sequence[int] = (),
    mode: HashMode = "flow",
) -> PoolHere:
    slots = np.tile(np.array([2, 1], np.uint16), (BUCKETS, 1))
    for bucket, chain in chains.items():
        slots[bucket] = chain
    table = Table("web", 1, 1, slots, np.zeros(BUCKETS, np.uint32))
    pool = Pool("web", BUCKETS, 2, hash_mode=mode)
    return pool_here(table, pool, KEY, OWN, now, before, dead)


def flows(*found: Flow) -> NDArray[np.void]:
    """Flows as the data plane's map has them."""
    rows = np.zeros(len(found), abi.RESET_FLOW)
    for row, flow in zip(rows, found, strict=True):
        row["client"], row["vip"] = words(flow.source), words(flow.destination)
        row["ports"] = swapped(flow.source_port) | swapped(flow.destination_port) << 16
        row["version"] = flow.source.version
    return rows


def sorted_flows(pool: PoolHere, *found: Flow, now: float = 100.0) -> list[Orphan]:
    sorter = Sorter(Steering(1, SERVICES, {"web": pool}, OWN.dip))
    return orphans_of(flows_of(flows(*found)), sorter, now)


def flow(port: int = 40000, vip_port: int = 80) -> Flow:
    return Flow(TCP, IPv4Address("198.51.100.7"), port, VIP, vip_port)


FLOW6 = Flow(TCP, IPv6Address("2001:db8:c::7"), 40000, VIP6, 443)


def test_a_flow_is_named_by_the_models_hash_under_the_pools_key() -> None:
    expected = [Orphan("web", one.hash(KEY), Kind.REST) for one in (flow(), flow(40001), FLOW6)]
    assert sorted_flows(here({}, 0.0), flow(), flow(40001), FLOW6) == expected
    by_client = here({}, 0.0, mode="client")
    assert sorted_flows(by_client, flow(), flow(40001), FLOW6) == expected, "whatever its mode"


def test_a_flow_of_no_service_or_of_a_pool_without_a_table_is_none() -> None:
    other = Flow(TCP, IPv4Address("198.51.100.7"), 40000, IPv4Address("192.0.2.99"), 80)
    assert sorted_flows(here({}, 0.0), other, flow(vip_port=82), flow(vip_port=81)) == []


def test_the_kind_is_by_what_happened_to_the_flows_own_bucket() -> None:
    bucket = bucket_of(flow().hash(KEY), BUCKETS)
    moved = here({bucket: [3, 2]}, 50.0, here({}, 0.0))
    others = here({b: [3, 2] for b in range(BUCKETS) if b != bucket}, 50.0, here({}, 0.0))
    died = here({bucket: [2, 0]}, 50.0, here({}, 0.0), dead=[1])
    assert [one.kind for one in sorted_flows(moved, flow())] == [Kind.MOVED]
    assert [one.kind for one in sorted_flows(others, flow())] == [Kind.REST]
    assert [one.kind for one in sorted_flows(died, flow())] == [Kind.DIED]
    later = 50.0 + RECENT_SECONDS + 1
    for pool in (moved, died):
        assert [one.kind for one in sorted_flows(pool, flow(), now=later)] == [Kind.REST]


def test_in_a_pool_by_client_the_bucket_is_the_clients() -> None:
    bucket = bucket_of(flow().hash(KEY, by_client=True), BUCKETS)
    before = here({}, 0.0, mode="client")
    moved = here({bucket: [3, 2]}, 50.0, before, mode="client")
    assert [one.kind for one in sorted_flows(moved, flow(), flow(40001))] == [Kind.MOVED] * 2
