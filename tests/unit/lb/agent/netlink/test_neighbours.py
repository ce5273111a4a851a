"""Next-hop MACs: what is looked up, what is published, and which events matter."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from lb.agent.netlink import neighbours as module
from lb.agent.netlink.neighbours import Events, Neighbours, next_hop, read_events

OURS = 3
GATEWAY = IPv4Address("10.0.0.254")
MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
REACHABLE, STALE, INCOMPLETE, FAILED, PERMANENT = 2, 4, 1, 0x20, 0x80


def message(kind: int, index: int = 0) -> bytes:
    body = struct.pack("=I", 0) + struct.pack("=i", index) + bytes(8)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


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
    assert read_events(data, OURS) == events


class Message(dict[str, Any]):
    """A netlink answer as pyroute2 gives it."""

    def get_attr(self, name: str) -> Any:
        return dict(self["attrs"]).get(name)


class FakeNetlink:
    """Routes through GATEWAY for 10.9.0.0/16, direct for 10.0.0.0/24, none else."""

    def __init__(self) -> None:
        self.entries: dict[IPv4Address, tuple[bytes | None, int]] = {}
        self.asked: list[IPv4Address] = []
        self.lookups = 0

    def route(self, _: str, dst: str, oif: int) -> Iterator[Message]:
        self.lookups += 1
        if dst.startswith("10.9."):
            yield Message(attrs=[("RTA_OIF", oif), ("RTA_GATEWAY", str(GATEWAY))])
        elif dst.startswith("10.0.0."):
            yield Message(attrs=[("RTA_OIF", oif)])
        elif dst.startswith("10.8."):
            yield Message(attrs=[("RTA_OIF", oif + 1)])
        else:
            raise NetlinkError(101, "unreachable")

    def get_neighbours(self, **_: object) -> Iterator[Message]:
        for address, (mac, state) in self.entries.items():
            attrs = [("NDA_DST", str(address))]
            if mac:
                attrs.append(("NDA_LLADDR", mac.hex(":")))
            yield Message(attrs=attrs, state=state)

    def neigh(self, _: str, dst: str, **__: object) -> None:
        self.asked.append(IPv4Address(dst))


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
    assert next_hop(FakeNetlink(), IPv4Address(dip), OURS) == hop


class Followed:
    def __init__(self) -> None:
        self.netlink = FakeNetlink()
        self.published: list[Mapping[int, bytes | None]] = []
        self.neighbours = Neighbours(
            OURS, IPv4Address("10.0.0.1"), self.published.append, lambda: None, lambda _: None
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


def test_many_dips_behind_one_gateway_are_one_neighbour() -> None:
    followed = Followed()
    followed.track(i1="10.0.0.1", i2="10.9.0.2", i3="10.9.0.3", i4="10.9.0.4")
    followed.neighbours._ask(followed.netlink)
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


def test_what_is_fresh_is_not_asked_for_again() -> None:
    followed = Followed()
    followed.netlink.entries = {
        IPv4Address("10.0.0.2"): (MAC_A, REACHABLE),
        IPv4Address("10.0.0.3"): (MAC_A, PERMANENT),
        IPv4Address("10.0.0.4"): (MAC_A, STALE),
        IPv4Address("10.0.0.5"): (None, FAILED),
    }
    followed.track(i2="10.0.0.2", i3="10.0.0.3", i4="10.0.0.4", i5="10.0.0.5")
    followed.neighbours._ask(followed.netlink)
    assert [str(address) for address in followed.netlink.asked] == ["10.0.0.4", "10.0.0.5"]


def test_an_index_with_another_dip_is_published_anew() -> None:
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
