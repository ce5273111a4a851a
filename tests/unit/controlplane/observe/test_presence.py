"""What a controller knows of where servers have connections, from their reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlplane.documents.presence import Dump, Mark, PoolPresence, encode_presence, key_id_of
from controlplane.domain.objects import Report
from controlplane.observe.presence import Presence

KEY_ID = key_id_of(bytes(16))


def body(number: int, connections: int = 1) -> dict[str, Any]:
    occupied = np.zeros(256, np.bool_)
    occupied[number] = True
    pools = {"web": PoolPresence(KEY_ID, 256, connections, occupied)}
    return encode_presence(Dump(number, Mark(1, number), 3, None, pools), 1 << 16)


class Agent:
    """One server's reports."""

    def __init__(self, presence: Presence, name: str = "s1", boot_id: str = "a") -> None:
        self.presence, self.name, self.boot_id, self.sequence = presence, name, boot_id, 0

    def report(self, content: object = None) -> None:
        self.sequence += 1
        report = Report(self.name, self.boot_id, self.sequence, 0.0, presence=content)
        self.presence.observe({self.name: report})
        self.presence.observe({self.name: report})  # a controller reads each report many times

    def numbers(self) -> list[int]:
        found = self.presence.of(self.name)
        return [dump.number for dump in found.dumps] if found else []


@pytest.fixture
def presence() -> Presence:
    return Presence()


def test_the_last_two_dumps_are_kept_as_they_were(presence: Presence) -> None:
    agent = Agent(presence)
    agent.report()
    assert presence.of("s1") is None
    for number in (1, 1, 2, 3, 3):
        agent.report(body(number, connections=number))
        agent.report()
    assert agent.numbers() == [2, 3]
    found = presence.of("s1")
    assert found is not None
    assert found.boot_id == "a"
    assert [dump.mark for dump in found.dumps] == [Mark(1, 2), Mark(1, 3)]
    assert [dump.pools["web"].connections for dump in found.dumps] == [2, 3]
    assert [np.flatnonzero(d.pools["web"].occupied).tolist() for d in found.dumps] == [[2], [3]]
    assert presence.refused == {"s1": 0}


def test_dumps_of_another_run_of_the_agent_do_not_count(presence: Presence) -> None:
    first = Agent(presence)
    first.report(body(8))
    first.report(body(9))
    second = Agent(presence, boot_id="b")
    second.report(body(1))
    assert second.numbers() == [1]
    assert presence.of("s1") is not None
    assert presence.of("s1").boot_id == "b"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        [],
        {},
        {**body(2), "pools": {"web": {}}},
        {**body(2), "cookies_age": "x"},
        body(1) | {"number": 0},
    ],
)
def test_what_cannot_be_read_is_counted_and_changes_nothing(
    presence: Presence, wrong: object
) -> None:
    agent = Agent(presence)
    agent.report(body(1))
    agent.report(wrong)
    assert agent.numbers() == [1]
    assert presence.refused == {"s1": 1}, "once a report"
    agent.report(body(2))
    assert agent.numbers() == [1, 2]


def test_a_number_that_goes_back_is_refused(presence: Presence) -> None:
    agent = Agent(presence)
    agent.report(body(5))
    agent.report(body(4))
    assert (agent.numbers(), presence.refused) == ([5], {"s1": 1})


def test_servers_without_a_report_are_forgotten(presence: Presence) -> None:
    Agent(presence).report(body(1))
    Agent(presence, "s2").report(body(1))
    assert presence.of("s1") is None
    assert presence.refused == {"s2": 0}


def test_when_a_dump_was_first_seen_is_kept_unless_it_was_there_before() -> None:
    presence = Presence()
    reports = {name: Report(name, "a", 1, 0.0, presence=body(1)) for name in ("s1", "s2")}
    presence.observe(reports, 5.0)
    assert presence.newest() == {"s1": (None, body(1)), "s2": (None, body(1))}
    reports["s1"] = Report("s1", "a", 2, 0.0, presence=body(2))
    for now in (6.0, 7.0):
        presence.observe(reports, now)
        assert presence.newest() == {"s1": (6.0, body(2)), "s2": (None, body(1))}
    reports["s1"] = Report("s1", "a", 3, 0.0, presence=body(2))
    presence.observe(reports, 8.0)
    reports["s1"] = Report("s1", "a", 4, 0.0)
    presence.observe(reports, 9.0)
    assert presence.newest()["s1"] == (6.0, body(2)), "the same dump in another report, and none"
