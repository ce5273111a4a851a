"""The routing table that mirrors main: what is copied, what is lowered, in which steps."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest

from lb.agent.mss.lowering import RTAX_ADVMSS, RTAX_MTU, lowered
from lb.agent.mss.mirror import Goal, Mirror, clear, copy_of, foreign_routes
from lb.agent.netlink.links import link_mtus
from lb.agent.netlink.messages import NUMBER, attribute
from lb.agent.netlink.route_socket import NLM_F_REPLACE, Request, RouteSocket
from lb.agent.netlink.routes import (
    OUR_PROTOCOL,
    RT_TABLE_MAIN,
    RTA_ENCAP,
    RTA_GATEWAY,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTMSG,
    RTNEXTHOP,
    NextHop,
    Route,
    build,
    is_mirrored,
    parse,
    table_of,
)
from lb.agent.netlink.rules import RTM_DELRULE, RTM_NEWRULE

TABLE = 6080
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
UNREACHABLE = 7
MTUS = {3: 1500, 4: 9000}
DEFAULT = Route(
    V4, 0, 0, 0, 0, 1, False, ((RTA_OIF, NUMBER.pack(3)), (RTA_GATEWAY, bytes([10, 0, 0, 1])))
)
CONNECTED = Route(
    V4, 24, 0, 0, 253, 1, False, ((1, bytes([10, 0, 0, 0])), (RTA_OIF, NUMBER.pack(3)))
)
VIPS = frozenset({IPv4Network("192.0.2.10/32")})
GOAL = Goal(TABLE, VIPS, 40, 1500)


def in_main(route: Route, protocol: int = 2) -> bytes:
    """A route as main's dump has it: with a cache, somebody's mark."""
    body = bytearray(build(route, RT_TABLE_MAIN))
    body[4], body[5] = RT_TABLE_MAIN, protocol
    return bytes(body) + attribute(12, bytes(36))


def somebodys(route: Route) -> bytes:
    """A route that an administrator has put into our table."""
    body = bytearray(build(route, TABLE))
    body[5] = 4
    return bytes(body)


def metrics_of(route: Route) -> dict[int, int]:
    return {kind: NUMBER.unpack(value)[0] for kind, value in route.metrics}


class FakeKernel(RouteSocket):
    """Two tables and the rules. ``refuse`` is a destination that our table may not have.

    ``families`` are those that it has; a dump of another one lists all (rtnl_dump_all).
    """

    def __init__(self, *main: Route) -> None:
        self.main = [in_main(route) for route in main]
        self.ours: list[Route] = []
        self.foreign: list[bytes] = []
        self.rules: list[bytes] = []
        self.kernels_rules = [RTMSG.pack(f, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 1, 0) for f in (V4, V6)]
        self.log: list[str] = []
        self.refuse = ""
        self.refuses_rules = False
        self.families = {V4, V6}

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        if kind == 18:
            return [
                struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(4, NUMBER.pack(mtu))
                for index, mtu in MTUS.items()
            ]
        listed = {body[0]} & self.families or self.families
        if kind == 34:
            return [rule for rule in (*self.kernels_rules, *self.rules) if rule[0] in listed]
        if table_of(body) == RT_TABLE_MAIN:
            return [raw for raw in self.main if raw[0] in listed]
        ours = [build(route, TABLE) for route in self.ours]
        return [raw for raw in (*ours, *self.foreign) if raw[0] in listed]

    def change(self, requests: Sequence[Request]) -> list[int]:
        return [self._change(request) for request in requests]

    def _change(self, request: Request) -> int:
        if request.kind in (RTM_NEWRULE, RTM_DELRULE):
            adds = request.kind == RTM_NEWRULE
            if adds and self.refuses_rules:
                return errno.EINVAL
            self.log.append(f"{'+' if adds else '-'}rule")
            (self.rules.append if adds else self.rules.remove)(request.body)
            return 0
        route = parse(request.body)
        if request.kind == 25:
            self.log.append(f"-{route}")
            self.ours.remove(route)
            return 0
        if self.refuse == str(route) and route.type == 1:
            return errno.ENETUNREACH
        replaces = bool(request.flags & NLM_F_REPLACE)
        self.log.append(f"{'=' if replaces else '+'}{route}")
        if replaces:
            self.ours = [r for r in self.ours if r.key != route.key]
        self.ours.append(route)
        return 0


def test_a_copy_is_its_original_but_for_mark_and_mss() -> None:
    """Its source too: with many VIPs this host's own connections are routed by copies."""
    source = (RTA_PREFSRC, bytes([10, 0, 0, 9]))
    given = replace(DEFAULT, attributes=(*DEFAULT.attributes, source))
    copy = parse(build(lowered(parse(in_main(given)), MTUS, 1500, 40), TABLE))
    assert copy == replace(given, metrics=((RTAX_ADVMSS, NUMBER.pack(1420)),))
    body = build(copy, TABLE)
    assert table_of(body) == TABLE
    assert body[5] == OUR_PROTOCOL


@pytest.mark.parametrize(
    ("family", "interface", "own", "underlay", "overhead", "advmss"),
    [
        (V4, 3, {}, 1500, 36, 1424),
        (V4, 3, {}, 1500, 48, 1412),
        (V6, 3, {}, 1500, 40, 1400),
        (V4, 4, {}, 1500, 40, 1420),  # leaves by jumbo frames, is wrapped without
        (V4, 4, {}, 9000, 40, 8920),
        (V4, 3, {RTAX_ADVMSS: 900}, 1500, 40, 900),
        (V4, 3, {RTAX_ADVMSS: 1460}, 1500, 40, 1420),
        (V4, 3, {RTAX_MTU: 1300}, 1500, 40, 1220),
        (V4, 77, {}, 1500, 40, 1420),  # an interface that came this moment
        (V4, 3, {RTAX_MTU: 300}, 1500, 40, 256),
    ],
)
def test_the_mss_is_lowered_for_the_narrowest_link(
    family: int, interface: int, own: dict[int, int], underlay: int, overhead: int, advmss: int
) -> None:
    given = tuple((kind, NUMBER.pack(value)) for kind, value in own.items())
    route = replace(
        DEFAULT, family=family, attributes=((RTA_OIF, NUMBER.pack(interface)),), metrics=given
    )
    assert metrics_of(lowered(route, MTUS, underlay, overhead)) == {**own, RTAX_ADVMSS: advmss}


def test_other_kinds_of_routes_have_no_mss_but_a_copy() -> None:
    unreachable = replace(CONNECTED, type=UNREACHABLE, attributes=CONNECTED.attributes[:1])
    assert is_mirrored(in_main(unreachable))
    assert lowered(unreachable, MTUS, 1500, 40) == unreachable
    assert not is_mirrored(in_main(replace(CONNECTED, type=3))), "broadcast"
    cloned = bytearray(in_main(DEFAULT))
    cloned[8:12] = NUMBER.pack(0x200)
    assert not is_mirrored(bytes(cloned)), "a cache entry of path MTU discovery"


def multipath(*hops: tuple[int, int, int]) -> bytes:
    """A route's message with (interface, flags, weight) hops."""
    parts = b"".join(
        RTNEXTHOP.pack(RTNEXTHOP.size + 8, flags, weight, interface)
        + attribute(RTA_GATEWAY, bytes([10, 0, interface, 1]))
        for interface, flags, weight in hops
    )
    return RTMSG.pack(V4, 0, 0, 0, RT_TABLE_MAIN, 2, 0, 1, 0) + attribute(9, parts)


def test_next_hops_are_copied_the_dead_ones_not() -> None:
    both = parse(multipath((4, 0, 2), (3, 4 | 16, 0)))
    gateways = [((RTA_GATEWAY, bytes([10, 0, index, 1])),) for index in (3, 4)]
    assert both.hops == (NextHop(3, True, 0, gateways[0]), NextHop(4, False, 2, gateways[1]))
    assert parse(build(both, TABLE)) == both
    assert both.interfaces == (3, 4)
    assert metrics_of(lowered(both, MTUS, 9000, 40))[RTAX_ADVMSS] == 1420, "the narrowest"
    alone = parse(multipath((4, 0, 2), (3, 1, 0)))
    assert alone.hops == ()
    assert alone.interfaces == (4,), "as the kernel reports a route that has one"


def test_a_nexthop_object_stands_for_what_it_leads_to() -> None:
    body = in_main(DEFAULT) + attribute(RTA_NH_ID, NUMBER.pack(7)) + attribute(RTA_ENCAP, b"1234")
    assert dict(parse(body).attributes) == {RTA_NH_ID: NUMBER.pack(7)}


def test_routes_come_before_rules_and_go_after_them() -> None:
    kernel = FakeKernel(DEFAULT, CONNECTED)
    outcome = Mirror(kernel).synchronise(GOAL, MTUS)
    assert sorted(kernel.log[:2]) == ["+10.0.0.0/24", "+default"]
    assert kernel.log[2:] == ["+rule"]
    assert (outcome.routes, outcome.changes, outcome.refused) == (2, 3, ())
    assert {metrics_of(route)[RTAX_ADVMSS] for route in kernel.ours} == {1420}
    kernel.log.clear()
    clear(kernel, TABLE)
    assert kernel.log[0] == "-rule"
    assert kernel.ours == []


def test_nothing_is_changed_where_nothing_differs() -> None:
    kernel = FakeKernel(DEFAULT, CONNECTED)
    mirror = Mirror(kernel)
    mirror.synchronise(GOAL, MTUS)
    kernel.log.clear()
    assert mirror.synchronise(GOAL, MTUS).changes == 0
    assert Mirror(kernel).synchronise(GOAL, MTUS).changes == 0, "nor by the next agent"
    assert kernel.log == []


def test_what_somebody_removed_is_put_back_and_what_main_changed_is_not_that() -> None:
    kernel = FakeKernel(DEFAULT, CONNECTED)
    mirror = Mirror(kernel)
    assert mirror.synchronise(GOAL, MTUS).put_back == 0, "the first time nothing was there"
    assert mirror.synchronise(GOAL, MTUS).put_back == 0
    kernel.ours.clear()
    assert mirror.synchronise(GOAL, MTUS).put_back == 2
    kernel.rules.clear()
    assert mirror.synchronise(GOAL, MTUS).put_back == 1
    kernel.main.pop()
    assert mirror.synchronise(GOAL, MTUS).put_back == 0
    more = replace(GOAL, vips=VIPS | {IPv4Network("192.0.2.20/32")})
    assert mirror.synchronise(more, MTUS).put_back == 0
    assert mirror.synchronise(more, MTUS).put_back == 0


def test_a_changed_route_is_replaced_in_one_step() -> None:
    kernel = FakeKernel(DEFAULT)
    mirror = Mirror(kernel)
    mirror.synchronise(GOAL, MTUS)
    other = replace(DEFAULT, attributes=((RTA_OIF, NUMBER.pack(4)),))
    kernel.main = [in_main(other)]
    kernel.log.clear()
    mirror.synchronise(GOAL, MTUS)
    mirror.synchronise(replace(GOAL, overhead=48), MTUS)
    assert kernel.log == ["=default", "=default"]
    assert metrics_of(kernel.ours[0])[RTAX_ADVMSS] == 1412


def test_routes_that_share_a_key_are_not_replaced_by_each_other() -> None:
    """As fe80::/64 is on each interface, with one metric."""
    link_local = [
        replace(
            CONNECTED,
            family=V6,
            attributes=(
                *((1, bytes([0xFE, 0x80, *bytes(14)])), (RTA_OIF, NUMBER.pack(index))),
                (RTA_PRIORITY, NUMBER.pack(256)),
            ),
        )
        for index in (3, 4)
    ]
    kernel = FakeKernel(*link_local)
    goal = replace(GOAL, vips=frozenset({IPv6Network("2001:db8::1/128")}))
    mirror = Mirror(kernel)
    mirror.synchronise(goal, MTUS)
    mirror.synchronise(replace(goal, overhead=48), MTUS)
    assert len(kernel.ours) == 2
    assert {metrics_of(route)[RTAX_ADVMSS] for route in kernel.ours} == {1392}


def test_what_the_kernel_refuses_is_left_to_main_and_reported() -> None:
    kernel = FakeKernel(DEFAULT, CONNECTED)
    kernel.refuse = "10.0.0.0/24"
    mirror = Mirror(kernel)
    outcome = mirror.synchronise(GOAL, MTUS)
    assert outcome.refused == ("10.0.0.0/24: Network is unreachable",)
    assert {str(route): route.type for route in kernel.ours} == {"default": 1, "10.0.0.0/24": 9}
    kernel.refuse = ""
    assert mirror.synchronise(GOAL, MTUS).refused == ()
    assert {route.type for route in kernel.ours} == {1}


def test_routes_of_others_in_the_table_are_counted_and_left() -> None:
    kernel = FakeKernel(DEFAULT)
    kernel.foreign = [somebodys(CONNECTED)]
    assert foreign_routes(kernel, TABLE) == 1
    Mirror(kernel).synchronise(GOAL, MTUS)
    clear(kernel, TABLE)
    assert "-10.0.0.0/24" not in kernel.log
    assert link_mtus(kernel) == MTUS


def test_only_families_with_vips_are_mirrored() -> None:
    kernel = FakeKernel(
        DEFAULT, replace(DEFAULT, family=V6, attributes=((RTA_OIF, NUMBER.pack(3)),))
    )
    Mirror(kernel).synchronise(GOAL, MTUS)
    assert {route.family for route in kernel.ours} == {V4}


def test_a_kernel_without_rules_gets_no_routes() -> None:
    """It would put them into main, whatever table they name."""
    kernel = FakeKernel(DEFAULT)
    kernel.kernels_rules = []
    with pytest.raises(OSError, match="does not route by rules"):
        Mirror(kernel).synchronise(GOAL, MTUS)
    assert kernel.log == []
    assert clear(kernel, TABLE).changes == 0


def test_a_kernel_without_ipv6_keeps_its_ipv4_copies() -> None:
    """Asked for the other family, it lists IPv4 again: those must not count."""
    kernel = FakeKernel(DEFAULT, CONNECTED)
    kernel.families = {V4}
    kernel.foreign = [somebodys(replace(CONNECTED, dst_len=25))]
    assert foreign_routes(kernel, TABLE) == 1
    mirror = Mirror(kernel)
    for _ in range(2):
        outcome = mirror.synchronise(GOAL, MTUS)
        assert (outcome.routes, outcome.refused) == (2, ())
        assert sorted(str(route) for route in kernel.ours) == ["10.0.0.0/24", "default"]
        assert len(kernel.rules) == 1
    with pytest.raises(OSError, match="does not route by rules"):
        mirror.synchronise(replace(GOAL, vips=frozenset({IPv6Network("2001:db8::1/128")})), MTUS)
    assert {body[0] for body in kernel.rules} <= {V4}


def test_copies_are_compared_by_all_that_is_in_them() -> None:
    assert copy_of(DEFAULT, TABLE) == copy_of(parse(build(DEFAULT, TABLE)), TABLE)
    assert copy_of(DEFAULT, TABLE) != copy_of(replace(DEFAULT, scope=253), TABLE)
    assert copy_of(DEFAULT, TABLE) != copy_of(replace(DEFAULT, onlink=True), TABLE)
