"""When the MSS is lowered, which notifications matter, and who owns the table."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.mss import keeper as module
from lb.agent.mss.goal import VipPaths, concerns, goal_for, is_lowered
from lb.agent.mss.keeper import MssKeeper
from lb.agent.mss.mirror import Goal, Mirror
from lb.agent.mss.rules import MAX_PREFIXES
from lb.agent.netlink.messages import HEADER, NUMBER, attribute, messages
from lb.agent.netlink.routes import RTMSG
from tests.unit.lb.agent.fakes import watching
from tests.unit.lb.agent.mss.test_mirror import DEFAULT, TABLE, FakeKernel, somebodys
from tests.unit.lb.agent.mss.test_rules import scattered

VIP = IPv4Network("192.0.2.10/32")
OWN_PORT = 4242
INTERFACE = 3


@pytest.mark.parametrize(
    ("mode", "mtu", "depth", "lowered"),
    [
        *(("auto", 1500, 2, True), ("auto", 1539, 2, True), ("auto", 1540, 2, False)),
        *(("auto", 1540, 3, True), ("auto", 1548, 4, False), ("auto", 9000, 4, False)),
        *(("lower", 9000, 1, True), ("off", 1500, 4, False)),
    ],
)
def test_it_is_lowered_where_packets_do_not_fit(
    mode: str, mtu: int, depth: int, lowered: bool
) -> None:
    assert is_lowered(mode, mtu, depth) is lowered
    goal = goal_for(VipPaths(frozenset({VIP}), depth), mode, TABLE, mtu)
    overhead = 36 + 4 * (depth - 1)
    assert goal == (Goal(TABLE, frozenset({VIP}), overhead, mtu) if lowered else Goal(TABLE))
    assert goal_for(VipPaths(frozenset(), depth), mode, TABLE, mtu) == Goal(TABLE)


def message(kind: int, table: int = 254, port: int = 1) -> bytes:
    short = table if table < 256 else 252
    body = RTMSG.pack(2, 0, 0, 0, short, 0, 0, 1, 0) + attribute(15, NUMBER.pack(table))
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, port) + body


@pytest.mark.parametrize(
    ("data", "matters"),
    [
        (message(24), True),
        (message(25, TABLE), True),
        (message(24, 255), False),
        (message(24, 100_000), False),
        (message(24, TABLE, OWN_PORT), False),
        (message(33, 0), True),
        (message(16, 0), True),
        (message(24, 255) + message(24, 254), True),
        (b"", False),
    ],
)
def test_only_main_our_table_rules_and_links_matter(data: bytes, matters: bool) -> None:
    assert concerns(messages(data), TABLE, OWN_PORT) is matters


def test_messages_are_cut_at_their_length() -> None:
    assert [len(body) for *_, body in messages(message(24) + b"xx")] == [len(message(24)) - 16]
    assert list(messages(struct.pack("=IHHII", 0, 1, 0, 0, 0))), "a length of 0 must not hang"


MadeKeeper = Callable[..., MssKeeper]


@pytest.fixture
def facts() -> SharedFacts:
    return SharedFacts(0.0)


@pytest.fixture
def made(tmp_path: Path, facts: SharedFacts) -> Iterator[MadeKeeper]:
    def make(record_table: int = 0, mode: str = "auto", table: int = TABLE) -> MssKeeper:
        journal = Journal(tmp_path, Record(NamespaceId("b", "n"), "eth0", "/b"))
        journal.note(mss_table=record_table)
        keeper = MssKeeper(mode, table, INTERFACE, journal, facts, lambda: None)
        stack.enter_context(keeper._watcher)
        stack.enter_context(keeper._owned)
        return keeper

    with ExitStack() as stack:
        yield make


def recorded(folder: Path) -> int:
    found = read_record(folder)
    return found.mss_table if found else 0


def meet(keeper: MssKeeper, kernel: Any, depth: int = 2) -> bool:
    return keeper._reconcile(VipPaths(frozenset({VIP}), depth), kernel, Mirror(kernel))


def test_lost_notifications_may_have_been_about_anything(made: MadeKeeper) -> None:
    keeper = made()
    keeper._watcher = watching(OSError(errno.ENOBUFS, "lost"), message(24, 255))
    assert keeper._changed(OWN_PORT)
    keeper._watcher = watching(message(24, 255))
    assert not keeper._changed(OWN_PORT)


def test_the_table_is_on_record_before_it_is_filled_and_until_it_is_empty(
    made: MadeKeeper, tmp_path: Path, facts: SharedFacts
) -> None:
    kernel = FakeKernel(DEFAULT)
    at_change: list[int] = []
    change = kernel.change

    def watched(requests: Any) -> list[int]:
        if requests:
            at_change.append(recorded(tmp_path))
        return change(requests)

    kernel.change = watched  # type: ignore[method-assign]
    keeper = made()
    assert meet(keeper, kernel)
    assert keeper.settled
    assert facts.current.mss_overhead == 40
    keeper._mode = "off"
    assert meet(keeper, kernel)
    assert not kernel.ours
    assert not kernel.rules
    assert set(at_change) == {TABLE}
    assert recorded(tmp_path) == 0
    assert facts.current.mss_overhead == 0


def test_it_is_reported_when_own_connections_are_lowered_too(
    made: MadeKeeper, facts: SharedFacts
) -> None:
    kernel: Any = FakeKernel(DEFAULT)
    keeper, mirror = made(), Mirror(kernel)
    for count, of_all in ((MAX_PREFIXES, False), (MAX_PREFIXES + 1, True), (1, False)):
        assert keeper._reconcile(VipPaths(scattered(count), 2), kernel, mirror)
        assert (facts.current.mss_overhead, facts.current.mss_of_all) == (40, of_all)


def test_a_table_of_an_earlier_setting_is_cleared(made: MadeKeeper, tmp_path: Path) -> None:
    kernel = FakeKernel(DEFAULT)
    assert meet(made(), kernel)
    later = made(TABLE, table=77)
    later._mode = "off"
    assert meet(later, kernel)
    assert not kernel.ours
    assert not kernel.rules
    assert recorded(tmp_path) == 0


def test_a_table_that_is_not_ours_is_left_and_named(
    made: MadeKeeper, facts: SharedFacts, tmp_path: Path
) -> None:
    kernel = FakeKernel(DEFAULT)
    kernel.foreign = [somebodys(DEFAULT)]
    keeper = made()
    assert not meet(keeper, kernel)
    assert "1 routes that are not ours" in facts.current.troubles["mss"]
    assert kernel.log == []
    assert recorded(tmp_path) == 0
    assert keeper.settled, "forwarding does not wait for it"
    kernel.foreign = []
    assert meet(keeper, kernel)
    assert facts.current.troubles == {}


def test_two_agents_do_not_share_a_table(made: MadeKeeper, facts: SharedFacts) -> None:
    kernel = FakeKernel(DEFAULT)
    assert meet(made(), kernel)
    assert not meet(made(), kernel)
    assert "another agent's" in facts.current.troubles["mss"]


def test_nothing_at_all_is_touched_where_packets_fit(made: MadeKeeper) -> None:
    kernel = FakeKernel(DEFAULT)
    keeper = made(mode="off")
    assert meet(keeper, kernel)
    assert kernel.log == []
    assert keeper.settled


def test_netlink_that_fails_is_a_trouble_and_no_death(
    made: MadeKeeper, facts: SharedFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(module, "RouteSocket", refuse)
    keeper = made()
    assert keeper.step() > 0
    assert "cannot be lowered" in facts.current.troubles["mss"]
    assert keeper.settled


def test_a_full_disk_is_a_trouble_and_no_death(
    made: MadeKeeper, facts: SharedFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BrigadeError("cannot write record.json: No space left on device")

    keeper = made()
    monkeypatch.setattr(keeper, "_follow", refuse)
    assert keeper.step() > 0
    assert "No space left" in facts.current.troubles["mss"]


def test_a_request_wakes_the_thread(made: MadeKeeper) -> None:
    keeper = made()
    assert not keeper._watcher.woken()
    keeper.lower([VIP], 2)
    assert keeper._watcher.woken()
    keeper.lower([VIP], 2)
    assert not keeper._watcher.woken(), "repeating it costs nothing"
    keeper.lower([VIP], 3)
    assert keeper._watcher.woken()
    keeper.lower([VIP], 3, 1500)
    assert keeper._watcher.woken()


@pytest.mark.parametrize(("path_mtu", "used"), [(None, 1600), (1500, 1500), (9000, 1600)])
def test_the_narrowest_path_counts_like_a_narrower_interface(
    made: MadeKeeper, monkeypatch: pytest.MonkeyPatch, path_mtu: int | None, used: int
) -> None:
    goals: list[int] = []

    def goal(_paths: VipPaths, _mode: str, table: int, mtu: int) -> Goal:
        goals.append(mtu)
        return Goal(table)

    monkeypatch.setattr(module, "link_mtus", lambda _: {INTERFACE: 1600})
    monkeypatch.setattr(module, "goal_for", goal)
    kernel: Any = FakeKernel(DEFAULT)
    paths = VipPaths(frozenset({VIP}), 2, path_mtu)
    made()._reconcile(paths, kernel, Mirror(kernel))
    assert goals == [used]
