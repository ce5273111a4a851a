"""The next hop of a DIP: of every form that routes have, and which tables can have it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from lb.agent.netlink.messages import attribute, number
from lb.agent.netlink.next_hops import Hop, NextHops, RouteChange, Way, look_up
from lb.agent.netlink.routes import RTA_NH_ID, RTMSG
from lb.agent.netlink.rules import FRA_L3MDEV, FRA_PROTOCOL, FRA_TABLE, tables_in_use
from tests.unit.lb.agent.netlink.fake_kernel import (
    GATEWAY,
    GATEWAY6,
    MAIN,
    OTHER,
    OURS,
    FakeKernel,
    direct,
    multipath,
)

DIP = IPv4Address("172.16.0.1")
ELSEWHERE = IPv6Address("fe80::2")


@pytest.mark.parametrize(
    ("route", "hop"),
    [
        (direct(), DIP),
        (direct(GATEWAY), GATEWAY),
        (direct(GATEWAY6), GATEWAY6),
        (multipath((OTHER, ELSEWHERE), (OURS, GATEWAY6)), GATEWAY6),
        (multipath((OTHER, GATEWAY), (OURS, GATEWAY6)), GATEWAY6),
        (multipath((OTHER, GATEWAY6), (OURS, None)), DIP),
        (multipath((OURS, GATEWAY), (OURS, GATEWAY6)), GATEWAY),
        (number(RTA_NH_ID, 7) + direct(GATEWAY6), GATEWAY6),
        (number(RTA_NH_ID, 7), GATEWAY6),
        (direct(GATEWAY, OTHER), None),
        (multipath((OTHER, GATEWAY)), None),
        (None, None),
    ],
)
def test_a_next_hop_is_a_gateway_of_any_family_or_the_dip_itself(
    route: bytes | None, hop: Hop | None
) -> None:
    kernel = FakeKernel()
    kernel.hidden[7] = direct(GATEWAY6)
    if route is not None:
        kernel.routes[IPv4Network("172.16.0.0/12")] = route
    wanted = None if hop is None else Way(hop, MAIN, 12)
    assert look_up(kernel, [DIP], OURS) == {DIP: wanted}


def test_a_nexthop_object_by_another_interface_is_no_way() -> None:
    kernel = FakeKernel()
    kernel.routes[IPv4Network("172.16.0.0/12")] = number(RTA_NH_ID, 7)
    kernel.hidden[7] = direct(GATEWAY6, OTHER)
    assert look_up(kernel, [DIP], OURS) == {DIP: None}


def rule(table: int, inner: bytes = b"", action: int = 1) -> bytes:
    head = RTMSG.pack(2, 0, 0, 0, table if table < 256 else 252, 0, 0, action, 0)
    return head + number(FRA_TABLE, table) + inner


def test_tables_are_those_of_rules_that_are_not_ours() -> None:
    kernel = FakeKernel()
    assert tables_in_use(kernel) == frozenset({254, 255})
    ours = rule(6080, attribute(FRA_PROTOCOL, bytes([60])))
    theirs = rule(100_000, attribute(FRA_PROTOCOL, bytes([2])))
    kernel.rules = [rule(255), rule(254), rule(253), ours, theirs, rule(77, action=6)]
    assert tables_in_use(kernel) == frozenset({253, 254, 255, 100_000})
    kernel.rules.append(rule(0, attribute(FRA_L3MDEV, b"\1")))
    assert tables_in_use(kernel) is None


def test_with_a_rule_for_vrfs_every_table_counts() -> None:
    kernel = FakeKernel()
    kernel.rules = [rule(0, attribute(FRA_L3MDEV, b"\1"))]
    hops = NextHops(OURS)
    hops.track([DIP])
    hops.read_rules(kernel)
    hops.look_up(kernel)
    hops.note([RouteChange(1234, 32, int(DIP), int(DIP))])
    assert hops.pending
    assert hops.interest.tables is None


def test_what_is_not_tracked_any_more_is_not_looked_up() -> None:
    kernel = FakeKernel()
    hops = NextHops(OURS)
    hops.track([DIP, IPv4Address("10.0.0.2")])
    hops.track([IPv4Address("10.0.0.2")])
    hops.read_rules(kernel)
    hops.look_up(kernel)
    assert kernel.looked_up == [IPv4Address("10.0.0.2")]
    assert not hops.pending
    assert hops.hops == {IPv4Address("10.0.0.2")}
    assert hops.hop(DIP) is None
