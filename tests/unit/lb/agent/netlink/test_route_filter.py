"""The filter in the kernel, run by the kernel: on a pair of sockets, it needs no root."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from lb.agent.netlink.messages import HEADER, attribute, messages, number
from lb.agent.netlink.next_hops import route_change
from lb.agent.netlink.route_filter import (
    MAX_RANGES,
    MAX_TABLES,
    Interest,
    filter_for,
    ranges_of,
)
from lb.agent.netlink.routes import RTA_DST, RTA_TABLE, RTMSG
from lb.agent.netlink.watcher import RTMGRP, Watcher

Network = IPv4Network | IPv6Network
DIPS = [IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6"), IPv4Address("10.0.9.9")]
HERE = Interest(frozenset({254, 255, 100_000}), ranges_of(DIPS))


def route(prefix: str, table: int = 254, kind: int = 24) -> bytes:
    """A notification as the kernel sends it: without a destination for a default route."""
    network: Network = IPv6Network(prefix) if ":" in prefix else IPv4Network(prefix)
    family = socket.AF_INET6 if network.version == 6 else socket.AF_INET
    short = table if table < 256 else 252
    body = RTMSG.pack(family, network.prefixlen, 0, 0, short, 0, 0, 1, 0)
    body += number(RTA_TABLE, table)
    if network.prefixlen:
        body += attribute(RTA_DST, network.network_address.packed)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


class Kernel:
    """Two sockets, and the filter before the second."""

    def __init__(self, sender: socket.socket, watcher: Watcher) -> None:
        self.sender = sender
        self.watcher = watcher

    def passes(self, data: bytes) -> bool:
        self.sender.send(data)
        return bool(self.watcher.notifications()[0])


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Watcher(RTMGRP(0)) as watcher, ours, theirs:
        ours.settimeout(0.0)
        watcher._events.close()
        watcher._events = ours
        yield Kernel(theirs, watcher)


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (route("10.0.0.5/32"), True),
        (route("10.0.0.5/32", 100_000), True),
        (route("10.0.0.5/32", kind=25), True),
        (route("10.0.0.4/30"), True),
        (route("10.0.0.0/8", 255), True),
        (route("8.0.0.0/5"), True),
        (route("0.0.0.0/1"), True),
        (route("0.0.0.0/0"), True),
        (route("10.0.9.9/32"), True),
        (route("10.0.0.5/32", 100), False),
        (route("10.0.0.5/32", 100_001), False),
        (route("0.0.0.0/0", 100), False),
        (route("10.0.0.4/32"), False),
        (route("10.0.0.7/32"), False),
        (route("10.0.9.8/32"), False),
        (route("10.0.0.128/25"), False),
        (route("10.0.10.0/24"), False),
        (route("128.0.0.0/1"), False),
        (route("255.255.255.255/32"), False),
        (route("2001:db8::/32"), True),
        (route("::/0", 100), False),
        (HEADER.pack(20, 16, 0, 0, 0) + bytes(4), True),
        (HEADER.pack(20, 28, 0, 0, 0) + bytes(4), True),
        (HEADER.pack(20, 32, 0, 0, 0) + bytes(4), True),
    ],
)
def test_routes_pass_by_table_and_destination(kernel: Kernel, data: bytes, passes: bool) -> None:
    kernel.watcher.set_filter(filter_for(HERE))
    assert kernel.passes(data) is passes


def test_without_an_interest_everything_passes_and_with_an_empty_one_no_route(
    kernel: Kernel,
) -> None:
    assert kernel.passes(route("10.0.0.5/32", 100))
    kernel.watcher.set_filter(filter_for(Interest(frozenset())))
    assert not kernel.passes(route("10.0.0.5/32"))
    assert kernel.passes(HEADER.pack(20, 16, 0, 0, 0) + bytes(4))
    kernel.watcher.set_filter(filter_for(Interest()))
    assert kernel.passes(route("10.0.0.5/32", 100))
    kernel.watcher.set_filter(filter_for(Interest(frozenset({254}), ())))
    assert not kernel.passes(route("10.0.0.5/32"))


def test_the_longest_filter_is_taken_and_right(kernel: Kernel) -> None:
    """The kernel takes the longest, twice: the old one is released only after the new one."""
    source = random.Random(4)
    dips = [IPv4Address(source.randrange(1 << 32)) for _ in range(4 * MAX_RANGES)]
    tables = frozenset(range(1000, 1000 + MAX_TABLES))
    for _ in range(3):
        interest = Interest(tables, ranges_of(dips))
        assert len(interest.ranges or ()) == MAX_RANGES
        kernel.watcher.set_filter(filter_for(interest))
        for _ in range(300):
            network = IPv4Network((source.randrange(1 << 32), source.randrange(33)), strict=False)
            data = route(str(network), source.choice((1000, 1031, 1063, 999, 1064)))
            (change,) = map(route_change, messages(data))
            wanted = change.table in tables and (
                network.prefixlen == 0 or covers(interest.ranges or (), network)
            )
            assert kernel.passes(data) is wanted, network
        dips.pop()


def covers(ranges: Iterable[tuple[int, int]], network: IPv4Network) -> bool:
    first, last = int(network.network_address), int(network.broadcast_address)
    return any(low <= last and first <= high for low, high in ranges)


def test_with_more_tables_than_fit_routes_of_all_pass(kernel: Kernel) -> None:
    kernel.watcher.set_filter(filter_for(Interest(frozenset(range(MAX_TABLES + 1)))))
    assert kernel.passes(route("10.0.0.5/32", 100_000))


def test_a_filter_that_the_kernel_refuses_leaves_none(kernel: Kernel) -> None:
    kernel.watcher.set_filter(filter_for(Interest(frozenset())))
    assert not kernel.passes(route("10.0.0.5/32"))
    kernel.watcher.set_filter(bytes(8))
    assert kernel.passes(route("10.0.0.5/32"))


@pytest.mark.parametrize(
    ("numbers", "most", "ranges"),
    [
        ([], 2, ()),
        ([5], 2, ((5, 5),)),
        ([5, 6, 9, 20], 9, ((5, 6), (9, 9), (20, 20))),
        ([5, 6, 9, 20], 2, ((5, 9), (20, 20))),
        ([5, 6, 9, 20], 1, ((5, 20),)),
        ([20, 5, 5], 2, ((5, 5), (20, 20))),
    ],
)
def test_ranges_have_all_addresses_and_leave_out_the_widest_gaps(
    numbers: list[int], most: int, ranges: tuple[tuple[int, int], ...]
) -> None:
    assert ranges_of(map(IPv4Address, numbers), most) == ranges
