"""The rules that lead to the mirror: as few as can be, and one for all where VIPs are many."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from controlplane.domain.objects import Vip
from lb.agent.mss.mirror import Goal, Mirror
from lb.agent.mss.rules import (
    ANY_SOURCE,
    MAX_PREFIXES,
    RULE_PRIORITY,
    change_rule,
    our_rule,
    rule_text,
    rules_wanted,
)
from lb.agent.netlink.messages import FAMILY, attribute
from lb.agent.netlink.routes import OUR_PROTOCOL
from lb.agent.netlink.rules import RTM_NEWRULE
from tests.unit.lb.agent.mss.test_mirror import DEFAULT, GOAL, MTUS, TABLE, FakeKernel


def test_rules_are_as_few_as_can_be_and_known_again() -> None:
    texts = ["192.0.2.10", "192.0.2.11", "198.51.100.0/24", "198.51.100.7", "2001:db8::/64"]
    vips = [ip_network(text) for text in texts]
    assert rules_wanted(vips, 4) == {
        IPv4Network("192.0.2.10/31"),
        IPv4Network("198.51.100.0/24"),
    }
    assert rules_wanted(vips, 6) == {IPv6Network("2001:db8::/64")}
    for prefix in (IPv4Network("192.0.2.10/31"), IPv6Network("2001:db8::/64")):
        body = change_rule(RTM_NEWRULE, prefix, TABLE).body
        assert our_rule(body, TABLE) == (prefix, RULE_PRIORITY)
        assert our_rule(body, 99) is None
        theirs = body.replace(attribute(21, bytes([OUR_PROTOCOL])), attribute(21, b"\3"))
        assert our_rule(theirs, TABLE) is None


def scattered(count: int, version: int = 4) -> frozenset[Vip]:
    """So many single VIPs of which no two are neighbours."""
    first = {4: "192.0.2.0", 6: "2001:db8::"}[version]
    lowest = ip_network(first).network_address
    return frozenset(ip_network(lowest + 2 * n) for n in range(count))


@pytest.mark.parametrize("version", [4, 6])
def test_rules_are_never_many(version: int) -> None:
    """Each look-up of a route walks them all."""
    most = scattered(MAX_PREFIXES, version)
    assert rules_wanted(most, version) == most
    assert not Goal(TABLE, most, 40, 1500).covers_all_tcp
    too_many = scattered(MAX_PREFIXES + 1, version)
    assert rules_wanted(too_many, version) == {ANY_SOURCE[version]}
    assert rules_wanted(too_many, 10 - version) == frozenset()
    assert Goal(TABLE, too_many, 40, 1500).covers_all_tcp
    adjacent = [vip.supernet(new_prefix=vip.prefixlen - 1) for vip in too_many]
    assert len(rules_wanted(adjacent, version)) == 2, "a run of them is few prefixes"


@pytest.mark.parametrize("version", [4, 6])
def test_the_rule_for_all_is_for_what_this_host_sends_by_tcp(version: int) -> None:
    every = ANY_SOURCE[version]
    body = change_rule(RTM_NEWRULE, every, TABLE).body
    assert (body[0], body[2]) == (FAMILY[version], 0)
    assert our_rule(body, TABLE) == (every, RULE_PRIORITY)
    assert our_rule(body, 99) is None
    for theirs in (
        body.replace(attribute(3, b"lo\0"), attribute(3, b"eth0\0")),
        body.replace(attribute(22, b"\6"), attribute(22, b"\x11")),
    ):
        assert theirs != body
        assert our_rule(theirs, TABLE) is None
    assert rule_text(every, TABLE) == "iif lo ipproto tcp lookup 6080"
    assert rule_text(IPv4Network("192.0.2.0/24"), TABLE) == "from 192.0.2.0/24 lookup 6080"


def test_the_rule_for_all_is_there_before_single_ones_go_and_the_reverse() -> None:
    kernel = FakeKernel(DEFAULT)
    mirror = Mirror(kernel)
    few, many = (replace(GOAL, vips=scattered(MAX_PREFIXES + n)) for n in (0, 1))
    mirror.synchronise(few, MTUS)
    assert len(kernel.rules) == MAX_PREFIXES
    kernel.log.clear()
    mirror.synchronise(many, MTUS)
    assert kernel.log == ["+rule", *["-rule"] * MAX_PREFIXES]
    assert [our_rule(body, TABLE) for body in kernel.rules] == [(ANY_SOURCE[4], RULE_PRIORITY)]
    kernel.log.clear()
    mirror.synchronise(few, MTUS)
    assert kernel.log == [*["+rule"] * MAX_PREFIXES, "-rule"]


def test_single_rules_stay_where_the_kernel_refuses_the_one_for_all() -> None:
    kernel = FakeKernel(DEFAULT)
    mirror = Mirror(kernel)
    mirror.synchronise(GOAL, MTUS)
    kernel.refuses_rules = True
    outcome = mirror.synchronise(replace(GOAL, vips=scattered(MAX_PREFIXES + 1)), MTUS)
    assert outcome.refused == ("a rule: Invalid argument",)
    assert len(kernel.rules) == 1
