"""When the MSS is lowered, which notifications matter, and who owns the table."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.facts import Board
from lb.agent.machine.boot import Place
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.mss import keeper as module
from lb.agent.mss.goal import Wish, concerns, goal_for, is_lowered
from lb.agent.mss.keeper import MssKeeper
from lb.agent.mss.mirror import Goal, Mirror
from lb.agent.mss.rules import MOST_PREFIXES
from lb.agent.netlink.bulk import HEADER, NUMBER, attribute, messages
from lb.agent.netlink.routes import MESSAGE
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
def test_it_is_lowered_where_there_is_no_room(
    mode: str, mtu: int, depth: int, lowered: bool
) -> None:
    assert is_lowered(mode, mtu, depth) is lowered
    goal = goal_for(Wish(frozenset({VIP}), depth), mode, TABLE, mtu)
    room = 36 + 4 * (depth - 1)
    assert goal == (Goal(TABLE, frozenset({VIP}), room, mtu) if lowered else Goal(TABLE))
    assert goal_for(Wish(frozenset(), depth), mode, TABLE, mtu) == Goal(TABLE)


def message(kind: int, table: int = 254, port: int = 1) -> bytes:
    short = table if table < 256 else 252
    body = MESSAGE.pack(2, 0, 0, 0, short, 0, 0, 1, 0) + attribute(15, NUMBER.pack(table))
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
    assert concerns(data, TABLE, OWN_PORT) is matters


def test_messages_are_cut_where_they_say() -> None:
    assert [len(body) for *_, body in messages(message(24) + b"xx")] == [len(message(24)) - 16]
    assert list(messages(struct.pack("=IHHII", 0, 1, 0, 0, 0))), "a length of 0 must not hang"


class Events:
    """A socket of notifications: raises what it is given, then has no more."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = [*answers]

    def recv(self, _: int) -> bytes:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


MadeKeeper = Callable[..., MssKeeper]


@pytest.fixture
def board() -> Board:
    return Board(0.0)


@pytest.fixture
def made(tmp_path: Path, board: Board) -> Iterator[MadeKeeper]:
    keepers: list[MssKeeper] = []

    def make(record_table: int = 0, mode: str = "auto", table: int = TABLE) -> MssKeeper:
        journal = Journal(tmp_path, Record(Place("b", "n"), "eth0", "/b"))
        journal.note(mss_table=record_table)
        keeper = MssKeeper(mode, table, INTERFACE, journal, board, lambda: None, lambda _: None)
        keepers.append(keeper)
        return keeper

    yield make
    for keeper in keepers:
        keeper._owned.close()


def recorded(folder: Path) -> int:
    found = read_record(folder)
    return found.mss_table if found else 0


def meet(keeper: MssKeeper, kernel: Any, depth: int = 2) -> bool:
    return keeper._meet(Wish(frozenset({VIP}), depth), kernel, Mirror(kernel))


def test_lost_notifications_may_have_been_about_anything(made: MadeKeeper) -> None:
    lost: Any = Events(OSError(errno.ENOBUFS, "lost"), message(24, 255))
    assert made()._drain(lost, OWN_PORT)
    nothing: Any = Events(message(24, 255))
    assert not made()._drain(nothing, OWN_PORT)


def test_the_table_is_on_record_before_it_is_filled_and_until_it_is_empty(
    made: MadeKeeper, tmp_path: Path, board: Board
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
    assert board.facts.mss_room == 40
    keeper._mode = "off"
    assert meet(keeper, kernel)
    assert not kernel.ours
    assert not kernel.rules
    assert set(at_change) == {TABLE}
    assert recorded(tmp_path) == 0
    assert board.facts.mss_room == 0


def test_it_is_told_when_own_connections_are_lowered_too(made: MadeKeeper, board: Board) -> None:
    kernel: Any = FakeKernel(DEFAULT)
    keeper, mirror = made(), Mirror(kernel)
    for count, of_all in ((MOST_PREFIXES, False), (MOST_PREFIXES + 1, True), (1, False)):
        assert keeper._meet(Wish(scattered(count), 2), kernel, mirror)
        assert (board.facts.mss_room, board.facts.mss_of_all) == (40, of_all)


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
    made: MadeKeeper, board: Board, tmp_path: Path
) -> None:
    kernel = FakeKernel(DEFAULT)
    kernel.foreign = [somebodys(DEFAULT)]
    keeper = made()
    assert not meet(keeper, kernel)
    assert "1 routes that are not ours" in board.facts.troubles["mss"]
    assert kernel.log == []
    assert recorded(tmp_path) == 0
    assert keeper.settled, "forwarding does not wait for it"
    kernel.foreign = []
    assert meet(keeper, kernel)
    assert board.facts.troubles == {}


def test_two_agents_do_not_share_a_table(made: MadeKeeper, board: Board) -> None:
    kernel = FakeKernel(DEFAULT)
    assert meet(made(), kernel)
    assert not meet(made(), kernel)
    assert "another agent's" in board.facts.troubles["mss"]


def test_nothing_at_all_is_touched_where_there_is_room(made: MadeKeeper) -> None:
    kernel = FakeKernel(DEFAULT)
    keeper = made(mode="off")
    assert meet(keeper, kernel)
    assert kernel.log == []
    assert keeper.settled


def test_netlink_that_fails_is_a_trouble_and_no_death(
    made: MadeKeeper, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(module, "RouteSocket", refuse)
    keeper = made()
    assert keeper.step() > 0
    assert "cannot be lowered" in board.facts.troubles["mss"]
    assert keeper.settled


def test_a_full_disk_is_a_trouble_and_no_death(
    made: MadeKeeper, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BrigadeError("cannot write record.json: No space left on device")

    # Only root may force a buffer beyond the limit; this test runs as any user.
    monkeypatch.setattr(module, "SO_RCVBUFFORCE", socket.SO_RCVBUF)
    keeper = made()
    monkeypatch.setattr(keeper, "_follow", refuse)
    assert keeper.step() > 0
    assert "No space left" in board.facts.troubles["mss"]


def test_a_socket_lets_a_waiter_know(made: MadeKeeper) -> None:
    keeper = made()
    assert not keeper._asked()
    keeper.lower([VIP], 2)
    assert keeper._asked()
    keeper.lower([VIP], 2)
    assert not keeper._asked(), "saying it again is free"
    keeper.lower([VIP], 3)
    assert keeper._asked()
    assert isinstance(keeper._wake_read, socket.socket)
