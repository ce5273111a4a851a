"""Next-hop MACs: what is resolved, what is published, and which events matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from ipaddress import IPv4Address, IPv4Network

import pytest

from lb.agent.netlink import neighbours as module
from lb.agent.netlink.messages import HEADER, attribute, messages, number
from lb.agent.netlink.neighbours import NDMSG, Events, Neighbours, read_events
from lb.agent.netlink.next_hops import RouteChange
from lb.agent.netlink.routes import RTA_DST, RTA_TABLE, RTMSG
from tests.unit.lb.agent.netlink.fake_kernel import (
    GATEWAY,
    GATEWAY6,
    OURS,
    FakeKernel,
    direct,
    entry,
)

MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
REACHABLE, STALE, INCOMPLETE, FAILED, PERMANENT = 2, 4, 1, 0x20, 0x80
NEW_NEIGHBOUR, DELETED_NEIGHBOUR, NEW_LINK = 28, 29, 16


def message(kind: int, body: bytes = b"") -> bytes:
    body = body or NDMSG.pack(0, OURS, 0, 0, 0) + bytes(4)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


def link(index: int) -> bytes:
    return message(NEW_LINK, NDMSG.pack(0, index, 0, 0, 0) + bytes(4))


def route(kind: int, prefix: str, table: int = 254) -> bytes:
    network = IPv4Network(prefix)
    body = RTMSG.pack(2, network.prefixlen, 0, 0, min(table, 252), 0, 0, 1, 0)
    body += number(RTA_TABLE, table)
    if network.prefixlen:
        body += attribute(RTA_DST, network.network_address.packed)
    return message(kind, body)


ANYWHERE = RouteChange(254, 0, 0, (1 << 32) - 1)
TEN = RouteChange(1000, 8, 10 << 24, (11 << 24) - 1)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (message(28, entry(GATEWAY, MAC_A, STALE)), Events(neighbours={GATEWAY: MAC_A})),
        (message(28, entry(GATEWAY6, MAC_A, STALE)), Events(neighbours={GATEWAY6: MAC_A})),
        (message(28, entry(GATEWAY, MAC_A, FAILED)), Events(neighbours={GATEWAY: None})),
        (message(29, entry(GATEWAY, MAC_A, STALE)), Events(neighbours={GATEWAY: None})),
        (message(28, entry(GATEWAY, MAC_A, STALE, 9)), Events()),
        (message(28), Events()),
        (link(OURS), Events(link=True, everything=True)),
        (link(9), Events()),
        (route(24, "0.0.0.0/0"), Events(routes=(ANYWHERE,))),
        (route(25, "10.0.0.0/8", 1000), Events(routes=(TEN,))),
        (message(20), Events(everything=True)),
        (message(32), Events(everything=True)),
        (b"\0" * 20, Events(everything=True)),
    ],
)
def test_events_are_sorted(data: bytes, events: Events) -> None:
    assert read_events(messages(data), OURS) == events


class Followed:
    """Neighbours whose rounds are run one by one, at times that a test chooses."""

    def __init__(self) -> None:
        self.netlink = FakeKernel()
        self.published: list[Mapping[int, bytes | None]] = []
        self.links = 0
        self.neighbours = Neighbours(
            OURS, IPv4Address("10.0.0.1"), self.published.append, self._on_link
        )
        self.now = 1000.0

    def _on_link(self) -> None:
        self.links += 1

    def track(self, **dips: str) -> list[Mapping[int, bytes | None]]:
        self.neighbours.track({int(name[1:]): IPv4Address(dip) for name, dip in dips.items()})
        return self.round()

    def round(
        self, *events: bytes, after: float = 0.0, lost: bool = False
    ) -> list[Mapping[int, bytes | None]]:
        """Let so many seconds pass, deliver events, and return what was published."""
        self.now += after
        self.published.clear()
        self.netlink.asked.clear()
        self.netlink.looked_up.clear()
        happened = read_events(messages(b"".join(events)), OURS)
        if lost:
            happened = Events(link=True, everything=True)
        self.neighbours._follow(self.netlink, happened, self.now)
        return list(self.published)


def test_the_interface_is_read_again_as_soon_as_it_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another MAC since the agent's start would make all packets another host's."""
    changes: list[str] = []
    monkeypatch.setattr(
        "lb.agent.netlink.neighbours.RouteSocket", lambda: nullcontext(FakeKernel())
    )
    neighbours = Neighbours(
        OURS, IPv4Address("10.0.0.1"), lambda _: None, lambda: changes.append("link")
    )
    neighbours._look_up_at = neighbours._refresh_at = 1e9
    neighbours.ending.set()
    neighbours.step()
    assert changes == ["link"]
    due = (neighbours._look_up_at, neighbours._refresh_at)
    assert due == (0.0, 0.0), "and all else that may have changed"


@pytest.fixture
def followed() -> Iterator[Followed]:
    made = Followed()
    with made.neighbours._watcher:
        yield made


def test_many_dips_behind_one_gateway_are_one_neighbour(followed: Followed) -> None:
    assert followed.track(i1="10.0.0.1", i2="10.9.0.2", i3="10.9.0.3", i4="10.9.0.4") == [
        {2: None, 3: None, 4: None}
    ]
    assert followed.netlink.asked == [GATEWAY]
    assert followed.neighbours.unresolved == 3
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    resolved = message(28, entry(GATEWAY, MAC_A, REACHABLE))
    assert followed.round(resolved) == [{2: MAC_A, 3: MAC_A, 4: MAC_A}]
    assert followed.neighbours.unresolved == 0
    assert followed.round(resolved) == []


def test_an_ipv6_next_hop_has_its_mac_from_the_ipv6_neighbours(followed: Followed) -> None:
    followed.netlink.routes[IPv4Network("0.0.0.0/0")] = direct(GATEWAY6)
    assert followed.track(i2="172.16.0.2", i3="10.9.0.3") == [{2: None, 3: None}]
    assert followed.netlink.asked == [GATEWAY, GATEWAY6]
    followed.netlink.entries = {GATEWAY6: (MAC_A, REACHABLE), GATEWAY: (MAC_B, REACHABLE)}
    assert followed.round(message(28, entry(GATEWAY6, MAC_A, REACHABLE))) == [{2: MAC_A, 3: MAC_B}]
    assert followed.neighbours.unresolved == 0


@pytest.mark.parametrize(
    ("state", "usable"),
    [(REACHABLE, True), (STALE, True), (PERMANENT, True), (FAILED, False), (INCOMPLETE, False)],
)
def test_only_valid_entries_are_used(followed: Followed, state: int, usable: bool) -> None:
    followed.netlink.entries[IPv4Address("10.0.0.2")] = (MAC_A, state)
    assert followed.track(i2="10.0.0.2") == [{2: MAC_A if usable else None}]


def test_what_is_fresh_is_not_resolved_again(followed: Followed) -> None:
    followed.netlink.entries = {
        IPv4Address("10.0.0.2"): (MAC_A, REACHABLE),
        IPv4Address("10.0.0.3"): (MAC_A, PERMANENT),
        IPv4Address("10.0.0.4"): (MAC_A, STALE),
        IPv4Address("10.0.0.5"): (None, FAILED),
    }
    followed.track(i2="10.0.0.2", i3="10.0.0.3", i4="10.0.0.4", i5="10.0.0.5")
    assert [str(address) for address in followed.netlink.asked] == ["10.0.0.5", "10.0.0.4"]
    followed.round(after=module.REFRESH_SECONDS)
    assert [str(address) for address in followed.netlink.asked] == ["10.0.0.5", "10.0.0.4"]


def asked_at(followed: Followed, seconds: int) -> list[int]:
    """In which of the next seconds something is requested, looking four times a second."""
    found = []
    for quarter in range(1, 4 * seconds + 1):
        followed.round(after=0.25)
        if followed.netlink.asked:
            found.append(quarter // 4)
    return found


def test_who_never_answers_is_asked_ever_more_seldom(followed: Followed) -> None:
    followed.track(i2="10.0.0.2")
    assert followed.netlink.asked == [IPv4Address("10.0.0.2")]
    assert asked_at(followed, 130) == [1, 3, 7, 15, 31, 61, 91, 121]
    assert followed.neighbours.unresolved == 1


def test_its_attempts_start_anew_with_the_link_or_once_it_was_there(followed: Followed) -> None:
    followed.track(i2="10.0.0.2")
    asked_at(followed, 100)
    followed.round(link(OURS))
    assert (followed.netlink.asked, followed.links) == ([IPv4Address("10.0.0.2")], 1)
    assert asked_at(followed, 10) == [1, 3, 7]
    dip = IPv4Address("10.0.0.2")
    followed.netlink.entries[dip] = (MAC_A, REACHABLE)
    followed.round(message(28, entry(dip, MAC_A, REACHABLE)))
    followed.netlink.entries[dip] = (None, FAILED)
    followed.round(message(28, entry(dip, None, FAILED)))
    assert followed.netlink.asked == [dip]


def test_an_attempt_that_fails_does_not_start_attempts_anew(followed: Followed) -> None:
    dip = IPv4Address("10.0.0.2")
    followed.track(i2="10.0.0.2")
    asked_at(followed, 20)
    followed.netlink.entries[dip] = (None, FAILED)
    followed.round(message(28, entry(dip, None, FAILED)), message(29, entry(dip, None, FAILED)))
    assert followed.netlink.asked == []


def test_without_a_route_nobody_is_asked_until_there_is_one(followed: Followed) -> None:
    """With one, at once, whatever came before."""
    assert followed.track(i2="172.16.0.2") == [{2: None}]
    assert asked_at(followed, 60) == []
    assert followed.neighbours.unresolved == 1
    followed.netlink.routes[IPv4Network("172.16.0.0/24")] = direct(GATEWAY)
    followed.round(route(24, "172.16.0.0/24"), after=2)
    assert followed.netlink.asked == [GATEWAY]


def test_an_index_with_another_dip_is_published_again(followed: Followed) -> None:
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    assert followed.track(i2="10.9.0.2") == [{2: MAC_A}]
    assert followed.track(i2="10.9.0.7") == [{2: MAC_A}], "the data plane forgot it with the DIP"
    followed.track(i3="10.9.0.7")
    followed.netlink.entries[GATEWAY] = (MAC_B, REACHABLE)
    assert followed.round(message(28, entry(GATEWAY, MAC_B, REACHABLE))) == [{3: MAC_B}]


def test_the_number_of_unresolved_dips_is_published_when_one_goes(followed: Followed) -> None:
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    followed.track(i2="10.9.0.2", i3="172.16.0.3")
    assert followed.neighbours.unresolved == 1
    assert followed.track(i2="10.9.0.2") == [{}]
    assert followed.neighbours.unresolved == 0


def test_known_routes_are_not_looked_up_again(followed: Followed) -> None:
    followed.track(i2="10.9.0.2", i3="10.9.0.3")
    followed.track(i2="10.9.0.2", i3="10.9.0.3", i4="10.9.0.4")
    assert [str(dip) for dip in followed.netlink.looked_up] == ["10.9.0.4"]


@pytest.mark.parametrize(
    ("change", "looked_up"),
    [
        (route(24, "10.9.0.0/16"), ["10.9.0.2", "10.9.0.3"]),
        (route(25, "10.9.0.2/32"), ["10.9.0.2"]),
        (route(24, "10.9.0.0/30", 253), ["10.9.0.2", "10.9.0.3"]),
        (route(24, "0.0.0.0/0"), []),
        (route(25, "10.0.0.0/8"), []),
        (route(24, "192.168.0.0/16"), []),
        (route(24, "10.9.0.0/16", 100), []),
    ],
)
def test_a_change_of_a_route_concerns_those_whose_way_it_may_be(
    followed: Followed, change: bytes, looked_up: list[str]
) -> None:
    """Not by a shorter prefix of the same table, nor by a table that no rule leads to."""
    followed.track(i2="10.9.0.2", i3="10.9.0.3")
    followed.neighbours._next_hops._tables = frozenset({253, 254, 255})
    followed.round(change, after=2)
    assert [str(dip) for dip in followed.netlink.looked_up] == looked_up


def test_look_ups_rest_after_they_took_time(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much that they take one part in a hundred; no change is forgotten meanwhile."""
    clock = iter([0.0, 0.005, 0.0, 0.0])
    followed.track(i2="10.9.0.2")
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    change = route(24, "10.9.0.0/16")
    followed.round(change, after=2)
    assert followed.netlink.looked_up
    followed.round(change, after=0.4)
    assert not followed.netlink.looked_up
    assert followed.neighbours._due_at() == pytest.approx(followed.now + 0.1)
    followed.round(after=0.2)
    assert followed.netlink.looked_up


def test_neighbours_that_are_no_next_hops_or_the_same_cost_nothing(followed: Followed) -> None:
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    followed.track(i2="10.9.0.2")
    before = followed.netlink.dumps
    stranger = IPv4Address("10.0.0.77")
    followed.round(message(28, entry(stranger, MAC_B, REACHABLE)))
    followed.round(message(28, entry(GATEWAY, MAC_A, STALE)))
    assert followed.netlink.dumps == before


def test_lost_notifications_may_have_been_about_anything(followed: Followed) -> None:
    followed.netlink.entries[GATEWAY] = (MAC_A, REACHABLE)
    followed.track(i2="10.9.0.2")
    followed.netlink.entries[GATEWAY] = (MAC_B, REACHABLE)
    assert followed.round(lost=True, after=2) == [{2: MAC_B}]
    assert followed.netlink.looked_up


def test_everything_is_looked_up_from_time_to_time(followed: Followed) -> None:
    followed.track(i2="10.9.0.2")
    followed.round(after=module.LOOK_UP_SECONDS)
    assert followed.netlink.looked_up


def test_the_numbers_are_those_of_the_kernel() -> None:
    assert module.NUD_VALID & (STALE | REACHABLE | PERMANENT) == STALE | REACHABLE | PERMANENT
    assert not module.NUD_VALID & (INCOMPLETE | FAILED)
