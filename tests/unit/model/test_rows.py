"""The rows of tests/packets in the model: it reads the page as the rows do."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.model import (
    FORWARDER_COUNTERS,
    KERNEL_COUNTERS,
    REDIRECTOR_COUNTERS,
    SameSocket,
    SocketState,
    redirect,
)
from tests.model.frames import ethernet
from tests.packets.catalogue import FORWARDER_ROWS, REDIRECTOR_ROWS, ROWS
from tests.packets.judge import Model, NeverAsked, judge
from tests.packets.page import checks, ends_of
from tests.packets.redirector import ERROR, ERROR6, UDP_ERROR, UDP_ERROR6, C, gue
from tests.packets.row import NO_REQUEST, Row, name_of, rows_for
from tests.packets.world import (
    AT_HOP,
    CLIENT,
    CLIENT6,
    DATA,
    DATA6,
    UDP,
    UDP6,
    VIP,
    VIP6,
)

DECIDED_BY_SOCKETS = {f"R{number}" for number in range(18, 26)} | {"6.2", "6.4", "6.5"}
"""R18 asks them only whether to remember its SYN (section 6.5)."""


@pytest.mark.parametrize("row", rows_for("model", FORWARDER_ROWS), ids=name_of)
def test_forwarder(row: Row) -> None:
    judge(row, Model())


@pytest.mark.parametrize("row", rows_for("model", REDIRECTOR_ROWS), ids=name_of)
def test_redirector(row: Row) -> None:
    judge(row, Model())


def test_every_row_has_a_name_of_its_own() -> None:
    names = Counter((row.program, row.name) for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_line_has_a_row_for_each_of_its_ends() -> None:
    ends = {
        (line, end.counter) for line, found in {**checks(4), **checks(6)}.items() for end in found
    }
    seen = {(row.line, packet.counter) for row in ROWS for packet in row.packets}
    assert ends <= seen


def test_every_vip_question_is_asked_both_ways() -> None:
    questions = {line for line, ends in checks(4).items() if any(e.only_for_vip for e in ends)}
    elsewhere = {
        row.line
        for row in FORWARDER_ROWS
        for packet in row.packets
        if packet.counter == "pass_no_service"
        and packet.counter not in {end.counter for end in ends_of(row.line)}
    }
    assert elsewhere - {"4.4"} == questions


def test_every_vip_question_is_asked_of_frames_for_another_host() -> None:
    questions = {line for line, ends in checks(4).items() if any(e.only_for_vip for e in ends)}
    others = {
        row.line
        for row in FORWARDER_ROWS
        for packet in row.packets
        if packet.counter == "pass_other_host"
        and packet.counter not in {end.counter for end in ends_of(row.line)}
    }
    assert others - {"4.4"} == questions


def test_every_counter_has_a_row() -> None:
    for rows, counters in (
        (FORWARDER_ROWS, FORWARDER_COUNTERS),
        (REDIRECTOR_ROWS, REDIRECTOR_COUNTERS),
    ):
        seen = {packet.counter for row in rows for packet in row.packets}
        assert seen == counters - KERNEL_COUNTERS


def test_few_rows_are_not_for_every_executor() -> None:
    left_out = {row.name for row in ROWS if row.not_for and row.not_for is not NO_REQUEST}
    assert len(left_out) <= 20, left_out
    assert all(reason for row in ROWS for reason in row.not_for.values())
    assert len(rows_for("model", ROWS)) == len(ROWS)


def test_sockets_are_asked_only_when_they_decide() -> None:
    for row in REDIRECTOR_ROWS:
        if row.line not in DECIDED_BY_SOCKETS:
            for packet in row.packets:
                redirect(packet.frame, row.config, NeverAsked())


@pytest.mark.parametrize("line", sorted({row.line for row in REDIRECTOR_ROWS}))
def test_frames_under_14_bytes_are_never_gue(line: str) -> None:
    row = next(row for row in REDIRECTOR_ROWS if row.line == line)
    result = redirect(row.packets[0].frame[:13], row.config, SameSocket())
    assert (result.verdict, result.counter) == ("ok", "ok_not_gue")


def test_sockets_are_asked_with_the_inner_flow() -> None:
    asked: list[tuple[object, ...]] = []

    class Recorder:
        def lookup(self, *flow: object) -> SocketState:
            asked.append(flow)
            return SocketState.NONE

    for inner in (DATA, UDP, DATA6, UDP6, ERROR, UDP_ERROR, ERROR6, UDP_ERROR6):
        redirect(ethernet(gue(inner, C)), AT_HOP, Recorder())
    tcp, udp = (6, CLIENT, 40000, VIP, 80), (17, CLIENT, 40000, VIP, 53)
    tcp6, udp6 = (6, CLIENT6, 40000, VIP6, 443), (17, CLIENT6, 40000, VIP6, 53)
    assert asked == [tcp, udp, tcp6, udp6, tcp, udp, tcp6, udp6]
