"""Next-hop MACs: what is looked up, what is published, and which events matter."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

import pytest

from lb.agent.netlink import neighbours as module
from lb.agent.netlink.messages import HEADER, attribute, attributes, messages, number
from lb.agent.netlink.neighbours import (
    NDA_DST,
    NDA_LLADDR,
    NDMSG,
    RTM_NEWNEIGH,
    Events,
    Neighbours,
    next_hop,
    read_events,
)
from lb.agent.netlink.route_socket import NetlinkError, Request, RouteSocket
from lb.agent.netlink.routes import RTA_DST, RTA_GATEWAY, RTA_OIF, RTMSG

OURS = 3
GATEWAY = IPv4Address("10.0.0.254")
MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
REACHABLE, STALE, INCOMPLETE, FAILED, PERMANENT = 2, 4, 1, 0x20, 0x80


def message(kind: int, index: int = 0) -> bytes:
    body = NDMSG.pack(0, index, 0, 0, 0) + bytes(4)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (message(28, OURS), Events(neighbours=True)),
        (message(29, OURS), Events(neighbours=True)),
        (message(28, 9), Events()),
        (message(16, OURS), Events(link=True)),
        (message(16, 9), Events()),
        (message(24), Events(routes=True)),
        (message(25), Events(routes=True)),
        (message(20), Events(routes=True)),
        (message(28, OURS) + message(16, OURS) + message(24), Events(True, True, True)),
        (b"\0" * 20, Events(routes=True)),
    ],
)
def test_events_are_sorted(data: bytes, events: Events) -> None:
    assert read_events(messages(data), OURS) == events


class FakeKernel(RouteSocket):
    """Routes through GATEWAY for 10.9.0.0/16, direct for 10.0.0.0/24, none else."""

    def __init__(self) -> None:
        self.entries: dict[IPv4Address, tuple[bytes | None, int]] = {}
        self.asked: list[IPv4Address] = []
        self.lookups = 0

    def get(self, _: int, body: bytes) -> bytes:
        self.lookups += 1
        found = dict(attributes(body, RTMSG.size))
        dst = str(IPv4Address(found[RTA_DST]))
        oif = int.from_bytes(found[RTA_OIF], "little")
        answer = RTMSG.pack(socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0)
        if dst.startswith("10.9."):
            return answer + number(RTA_OIF, oif) + attribute(RTA_GATEWAY, GATEWAY.packed)
        if dst.startswith("10.0.0."):
            return answer + number(RTA_OIF, oif)
        if dst.startswith("10.8."):
            return answer + number(RTA_OIF, oif + 1)
        raise NetlinkError(errno.ENETUNREACH)

    def dump(self, _: int, __: bytes) -> list[bytes]:
        """Neighbours of ours, and one that must not count."""
        found = [NDMSG.pack(2, OURS + 1, PERMANENT, 0, 0) + attribute(NDA_DST, GATEWAY.packed)]
        for address, (mac, state) in self.entries.items():
            body = NDMSG.pack(socket.AF_INET, OURS, state, 0, 0)
            body += attribute(NDA_DST, address.packed)
            found.append(body + (attribute(NDA_LLADDR, mac) if mac else b""))
        return found

    def change(self, requests: Sequence[Request]) -> list[int]:
        for request in requests:
            assert request.kind == RTM_NEWNEIGH
            assert NDMSG.unpack_from(request.body) == (2, OURS, 0, module.NTF_USE, 0)
            found = dict(attributes(request.body, NDMSG.size))
            self.asked.append(IPv4Address(found[NDA_DST]))
        return [0 for _ in requests]


@pytest.mark.parametrize(
    ("dip", "hop"),
    [
        ("10.0.0.5", IPv4Address("10.0.0.5")),
        ("10.9.1.1", GATEWAY),
        ("10.8.1.1", None),
        ("172.16.0.1", None),
    ],
)
def test_a_next_hop_is_the_gateway_or_the_dip_itself(dip: str, hop: IPv4Address | None) -> None:
    assert next_hop(FakeKernel(), IPv4Address(dip), OURS) == hop


class Followed:
    def __init__(self) -> None:
        self.netlink = FakeKernel()
        self.published: list[Mapping[int, bytes | None]] = []
        self.neighbours = Neighbours(
            OURS, IPv4Address("10.0.0.1"), self.published.append, lambda: None
        )

    def track(self, **dips: str) -> None:
        wanted = {int(name[1:]): IPv4Address(dip) for name, dip in dips.items()}
        self.neighbours.track(wanted)
        assert self.neighbours._take_dips()
        self.neighbours._find_hops(self.netlink, afresh=False)

    def compare(self) -> list[Mapping[int, bytes | None]]:
        self.published.clear()
        self.neighbours._compare(self.netlink)
        return list(self.published)


def test_the_interface_is_read_again_as_soon_as_it_is_watched() -> None:
    """Another MAC since the agent's start would make all packets another host's."""
    changes: list[str] = []
    neighbours = Neighbours(
        OURS, IPv4Address("10.0.0.1"), lambda _: None, lambda: changes.append("link")
    )
    neighbours.ending.set()
    neighbours._follow(FakeKernel())
    assert changes == ["link"]


def test_many_dips_behind_one_gateway_are_one_neighbour() -> None:
    followed = Followed()
    followed.track(i1="10.0.0.1", i2="10.9.0.2", i3="10.9.0.3", i4="10.9.0.4")
    followed.neighbours._resolve(followed.netlink)
    assert followed.netlink.asked == [GATEWAY]
    assert followed.compare() == [{2: None, 3: None, 4: None}]
    assert followed.neighbours.unresolved == 3
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    assert followed.compare() == [{2: MAC_A, 3: MAC_A, 4: MAC_A}]
    assert followed.neighbours.unresolved == 0
    assert followed.compare() == []


@pytest.mark.parametrize(
    ("state", "usable"),
    [(REACHABLE, True), (STALE, True), (PERMANENT, True), (FAILED, False), (INCOMPLETE, False)],
)
def test_only_valid_entries_are_used(state: int, usable: bool) -> None:
    followed = Followed()
    followed.netlink.entries[IPv4Address("10.0.0.2")] = (MAC_A, state)
    followed.track(i2="10.0.0.2")
    assert followed.compare() == [{2: MAC_A if usable else None}]


def test_what_is_fresh_is_not_resolved_again() -> None:
    followed = Followed()
    followed.netlink.entries = {
        IPv4Address("10.0.0.2"): (MAC_A, REACHABLE),
        IPv4Address("10.0.0.3"): (MAC_A, PERMANENT),
        IPv4Address("10.0.0.4"): (MAC_A, STALE),
        IPv4Address("10.0.0.5"): (None, FAILED),
    }
    followed.track(i2="10.0.0.2", i3="10.0.0.3", i4="10.0.0.4", i5="10.0.0.5")
    followed.neighbours._resolve(followed.netlink)
    assert [str(address) for address in followed.netlink.asked] == ["10.0.0.4", "10.0.0.5"]


def test_an_index_with_another_dip_is_published_again() -> None:
    followed = Followed()
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    followed.track(i2="10.9.0.2")
    assert followed.compare() == [{2: MAC_A}]
    followed.track(i2="10.9.0.7")
    assert followed.compare() == [{2: MAC_A}], "the data plane forgot it with the old DIP"
    followed.track(i3="10.9.0.7")
    followed.compare()
    followed.netlink.entries[GATEWAY] = (MAC_B, REACHABLE)
    assert followed.compare() == [{3: MAC_B}]


def test_known_routes_are_not_looked_up_again_unless_routes_changed() -> None:
    followed = Followed()
    followed.track(i2="10.9.0.2", i3="10.9.0.3")
    followed.track(i2="10.9.0.2", i3="10.9.0.3", i4="10.9.0.4")
    assert followed.netlink.lookups == 3
    followed.neighbours._find_hops(followed.netlink, afresh=True)
    assert followed.netlink.lookups == 6


def test_the_numbers_are_those_of_the_kernel() -> None:
    assert module.NUD_VALID & (STALE | REACHABLE | PERMANENT) == STALE | REACHABLE | PERMANENT
    assert not module.NUD_VALID & (INCOMPLETE | FAILED)
