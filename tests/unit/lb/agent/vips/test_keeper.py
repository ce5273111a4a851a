"""VIPs on lo: ours come and go, others' stay, the record is ahead of the change."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.netlink.links import IFA_ADDRESS, IFADDRMSG
from lb.agent.netlink.messages import NUMBER, attribute, attributes
from lb.agent.netlink.route_socket import Request, RouteSocket
from lb.agent.netlink.routes import OUR_PROTOCOL, RTA_DST, RTA_TABLE, RTMSG, parse, table_of
from lb.agent.vips.addresses import (
    CACHEINFO,
    IFA_CACHEINFO,
    IFA_FLAGS,
    add_vips,
    local_vips,
    remove_vips,
)
from lb.agent.vips.keeper import VipKeeper
from tests.unit.lb.agent.vips.test_conflicts import FakeLinks

A, B, C = (IPv4Network(f"192.0.2.{n}/32") for n in (10, 20, 30))
PREFIX = IPv4Network("198.51.100.0/24")
SIX, SIX_PREFIX = IPv6Network("2001:db8::10/128"), IPv6Network("2001:db8:1::/64")
ALL: tuple[Vip, ...] = (A, PREFIX, SIX, SIX_PREFIX)
LO_OFF = "net/ipv6/conf/lo/disable_ipv6"


def subject(request: Request) -> Vip:
    """What a request is about: an address of lo, or a local route."""
    if request.kind in (20, 21):
        _, length, _, _, index = IFADDRMSG.unpack_from(request.body)
        found = dict(attributes(request.body, IFADDRMSG.size))
        assert index == 1
        return ip_network((found[IFA_ADDRESS], length))
    route = parse(request.body)
    assert (table_of(request.body), route.type, route.interfaces) == (255, 2, (1,))
    assert request.body[5] == OUR_PROTOCOL, "so that only ours can be deleted"
    return ip_network((dict(route.attributes)[RTA_DST], route.dst_len))


class Lo(RouteSocket):
    """The local table, and the record at each change."""

    def __init__(self, state_dir: Path, *present: Vip) -> None:
        self.state_dir = state_dir
        self.present = set(present)
        self.recorded: list[tuple[str, bool]] = []
        self.requests: list[Request] = []
        self.error = 0
        self.without_route: set[Vip] = set()
        self.late = 0
        self.sysctls = {LO_OFF: "0"}
        self.links = FakeLinks()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        if kind != 26 or table_of(body) != 255:
            return self.links.dump(kind, body)
        ipv6 = body[0] != socket.AF_INET
        hidden = {SIX} if ipv6 and self.late and self.recorded[2:] else set[Vip]()
        self.late -= bool(hidden)
        here = [vip for vip in self.present - hidden if (vip.version == 6) == ipv6]
        return [
            RTMSG.pack(body[0], vip.prefixlen, 0, 0, 255, 2, 254, kind, 0)
            + attribute(RTA_TABLE, NUMBER.pack(255))
            + attribute(RTA_DST, vip.network_address.packed)
            for vip in here
            for kind in (2, 3)
        ]

    def change(self, requests: Sequence[Request]) -> list[int]:
        return [self._change(request) for request in requests]

    def _change(self, request: Request) -> int:
        self.requests.append(request)
        vip = subject(request)
        record = read_record(self.state_dir)
        added = request.kind in (20, 24)
        on_record = record is not None and vip in record.vips
        self.recorded.append((f"{'+' if added else '-'}{vip}", on_record))
        if self.error:
            return self.error
        if added:
            if vip not in self.without_route:
                self.present.add(vip)
            return 0
        self.without_route.discard(vip)
        gone = vip not in self.present
        self.present.discard(vip)
        return errno.EADDRNOTAVAIL if gone else 0


def keeper(lo: Lo, *ours: Vip) -> VipKeeper:
    journal = Journal(lo.state_dir, Record(NamespaceId("b", "n"), "eth0", "/b"))
    journal.note(vips=ours)
    made = VipKeeper(lo, journal, lo.sysctls.__getitem__, lo.sysctls.__setitem__)
    made.enabled = True
    return made


def test_nothing_happens_before_it_is_enabled(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.enabled = False
    vips.extend(frozenset({A}))
    vips.shrink(frozenset())
    assert lo.recorded == []


def test_each_is_recorded_before_it_is_added_and_until_it_is_removed(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset(ALL))
    vips.shrink(frozenset({PREFIX, SIX}))
    added = [(f"+{vip}", True) for vip in (A, PREFIX, SIX, SIX_PREFIX)]
    assert lo.recorded == [*added, (f"-{A}", True), (f"-{SIX_PREFIX}", True)]
    assert lo.present == {PREFIX, SIX}


def test_one_that_was_there_before_is_neither_added_nor_removed(tmp_path: Path) -> None:
    lo = Lo(tmp_path, A, PREFIX, SIX, SIX_PREFIX)
    vips = keeper(lo)
    vips.extend(frozenset({*ALL, B}))
    vips.shrink(frozenset())
    assert lo.present == set(ALL)
    assert [change for change, _ in lo.recorded] == [f"+{B}", f"-{B}"]


def test_a_prefix_does_not_stand_for_an_address_in_it(tmp_path: Path) -> None:
    inside = IPv4Network("198.51.100.7/32")
    lo = Lo(tmp_path, inside)
    keeper(lo).extend(frozenset({PREFIX, inside}))
    assert [change for change, _ in lo.recorded] == [f"+{PREFIX}"]


@pytest.mark.parametrize("still_there", [True, False])
def test_those_of_a_killed_agent_are_taken_over(tmp_path: Path, still_there: bool) -> None:
    lo = Lo(tmp_path, *((A,) if still_there else ()))
    vips = keeper(lo, A, C)
    vips.shrink(frozenset({A, B}))
    vips.extend(frozenset({A, B}))
    assert lo.present == {A, B}
    record = read_record(tmp_path)
    assert record is not None
    assert set(record.vips) == {A, B}


def test_an_ipv6_address_is_usable_at_once_and_nobodys_source(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    add_vips(lo, [SIX])
    found = dict(attributes(lo.requests[0].body, IFADDRMSG.size))
    assert NUMBER.unpack(found[IFA_FLAGS])[0] & 0x02, "nodad"
    assert CACHEINFO.unpack(found[IFA_CACHEINFO])[:2] == (0, 0xFFFFFFFF), "deprecated, for ever"


@pytest.mark.parametrize(
    ("wanted", "before", "after"),
    [((SIX,), "1", "0"), ((SIX_PREFIX,), "1", "0"), ((A, PREFIX), "1", "1"), ((SIX,), "0", "0")],
)
def test_ipv6_is_switched_on_for_lo_where_it_has_to_be(
    tmp_path: Path, wanted: tuple[Vip, ...], before: str, after: str
) -> None:
    lo = Lo(tmp_path)
    lo.sysctls[LO_OFF] = before
    keeper(lo).extend(frozenset(wanted))
    assert lo.sysctls[LO_OFF] == after
    record = read_record(tmp_path)
    assert record is not None
    assert record.sysctls == ({LO_OFF: ("1", "0")} if before != after else {})


def test_those_that_somebody_removed_are_missing_and_put_back(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset(ALL))
    assert vips.missing() == frozenset()
    lo.present -= {A, SIX_PREFIX}
    assert vips.missing() == {A, SIX_PREFIX}
    vips.put_back()
    assert lo.present == set(ALL)
    assert [change for change, _ in lo.recorded[4:]] == [f"+{A}", f"+{SIX_PREFIX}"]


def test_an_address_whose_route_is_gone_is_removed_and_added(tmp_path: Path) -> None:
    """The kernel does not add the route of an address that it has."""
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset({A, B}))
    lo.without_route = {A}
    lo.present.discard(A)
    vips.put_back()
    assert lo.present == {A, B}
    assert [change for change, _ in lo.recorded[2:]] == [f"+{A}", f"-{A}", f"+{A}"]


def test_the_route_of_an_ipv6_address_may_come_a_moment_later(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset({A, SIX}))
    lo.present.discard(SIX)
    lo.late = 3
    vips.put_back()
    assert [change for change, _ in lo.recorded[2:]] == [f"+{SIX}"], "not removed again"
    assert vips.missing() == frozenset()


def test_one_that_is_left_out_is_not_missing(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    lo.links.addresses = [(3, "198.51.100.1")]
    vips = keeper(lo)
    vips.extend(frozenset({PREFIX, A}))
    assert vips.missing() == frozenset()


def test_a_prefix_that_would_cut_this_server_off_stays_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset(ALL))
    assert vips.trouble is None
    lo.links.addresses = [(3, "2001:db8:1::5"), (3, "198.51.100.1")]
    for _ in range(2):
        vips.extend(frozenset(ALL))
        assert lo.present == {A, SIX}, "ours are taken off"
        assert vips.trouble == (
            "VIP 198.51.100.0/24 covers 198.51.100.1 of eth0: not put up (nor are 1 more); "
            "a prefix has to be one of its own, routed to the servers"
        )
    assert capsys.readouterr().out.count("covers 2001:db8:1::5 of eth0") == 1, "logged once"
    record = read_record(tmp_path)
    assert record is not None
    assert set(record.vips) == {A, SIX}
    lo.links.addresses = []
    vips.extend(frozenset(ALL))
    assert (lo.present, vips.trouble) == (set(ALL), None)


def test_a_prefix_that_somebody_else_made_local_is_theirs(tmp_path: Path) -> None:
    lo = Lo(tmp_path, PREFIX)
    lo.links.addresses = [(3, "198.51.100.1")]
    vips = keeper(lo)
    vips.extend(frozenset({PREFIX}))
    assert (lo.present, lo.recorded, vips.trouble) == ({PREFIX}, [], None)


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    lo.error = errno.EOPNOTSUPP
    with pytest.raises(BrigadeError, match=r"2001:db8::10 to lo: .*; is IPv6 switched off"):
        add_vips(lo, [SIX])
    lo.error = errno.EPERM
    with pytest.raises(BrigadeError, match=r"198.51.100.0/24 from lo: Operation not permitted"):
        remove_vips(lo, [PREFIX])
    lo.error = errno.EEXIST
    add_vips(lo, [A])


def test_what_is_local_is_read_from_the_kernels_table(tmp_path: Path) -> None:
    assert local_vips(Lo(tmp_path, *ALL)) == set(ALL)
