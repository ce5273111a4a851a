"""Which connections are proved to be broken, from reports that may lie, be old or make no sense."""

from __future__ import annotations

import pytest

from controlplane.documents.flows import ReportedFlows, encode_flows
from controlplane.domain.objects import FlowName, Report
from controlplane.observe.orphans import (
    ASK_SECONDS,
    DONE_SECONDS,
    MOST_DONE,
    MOST_OF_ONE,
    Orphans,
)
from controlplane.store.asked import MOST_ASKED

FLOW = FlowName("web", 0xFEDCBA9876543210)


def flows(*numbers: int) -> list[FlowName]:
    return [FlowName("web", number << 24 | 5) for number in numbers]


class Fleet:
    """What a controller reads, report by report."""

    def __init__(self) -> None:
        self.orphans = Orphans()
        self.now = 1000.0
        self.reports = {name: Report(name, "a", 1, 0.0) for name in ("s1", "s2", "s3", "s4", "s5")}
        self.observe()

    def observe(self) -> None:
        self.orphans.observe(self.reports, self.now)
        self.orphans.observe(self.reports, self.now)  # a controller reads each many times

    def report(
        self,
        name: str,
        orphans: list[FlowName] | None = None,
        held: list[FlowName] | None = None,
        body: object = None,
        boot_id: str = "a",
    ) -> None:
        before = self.reports[name]
        found = ReportedFlows(tuple(orphans or ()), tuple(held or ()))
        content = encode_flows(found) if body is None else body
        sequence = before.sequence + 1 if boot_id == before.boot_id else 1
        self.reports[name] = Report(name, boot_id, sequence, 0.0, flows=content)
        self.observe()

    @property
    def proved(self) -> dict[tuple[str, str], int]:
        return dict(self.orphans.proved)

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.orphans.refused)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_a_connection_that_another_server_has_is_proved_once(fleet: Fleet) -> None:
    assert fleet.orphans.asked == frozenset()
    fleet.report("s2", [FLOW])
    assert fleet.orphans.asked == {FLOW.asked}
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 1}
    assert fleet.orphans.asked == frozenset()
    fleet.report("s2", [FLOW])
    fleet.report("s1", held=[FLOW])
    fleet.report("s3", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 1}
    assert fleet.refused == {}, "they still answer what is over"
    fleet.now += DONE_SECONDS
    fleet.report("s2", [FLOW])
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 2}


def test_an_orphan_that_nobody_has_is_asked_for_only_for_a_moment(fleet: Fleet) -> None:
    fleet.report("s2", [FLOW])
    fleet.now += ASK_SECONDS - 0.1
    fleet.report("s2", [FLOW])
    assert fleet.orphans.asked == {FLOW.asked}
    fleet.now += 0.1
    fleet.report("s2", [FLOW])
    assert fleet.orphans.asked == frozenset()
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {}


def test_a_server_cannot_prove_its_own_orphan(fleet: Fleet) -> None:
    fleet.report("s2", [FLOW], [FLOW])
    assert fleet.proved == {}
    fleet.report("s3", [FLOW], [FLOW])
    assert fleet.proved == {}, "two servers had no socket"
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 1}


def test_who_does_not_know_the_whole_hash_does_not_have_it(fleet: Fleet) -> None:
    """A server that claims all that is asked for has to guess 24 bits of each."""
    fleet.report("s2", [FLOW])
    guesses = [FlowName("web", FLOW.asked.part << 24 | n) for n in range(64)]
    fleet.report("s4", held=guesses)
    assert fleet.proved == {}
    assert fleet.refused == {"s4": 64}
    fleet.report("s4", held=[FlowName("other", FLOW.hash)])
    assert (fleet.proved, fleet.refused) == ({}, {"s4": 65}), "nor of another pool"
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 1}


def test_what_nobody_asked_for_is_refused(fleet: Fleet) -> None:
    fleet.report("s4", held=flows(1, 2, 3))
    assert (fleet.proved, fleet.refused) == ({}, {"s4": 3})


@pytest.mark.parametrize(
    "body", [3, {"orphans": [["web", "x"]]}, {"held": [["web", "0123456789abcdef"]] * 65}]
)
def test_flows_that_cannot_be_read_are_counted_and_others_go_on(fleet: Fleet, body: object) -> None:
    fleet.report("s2", [FLOW])
    fleet.report("s4", body=body)
    assert fleet.refused == {"s4": 1}
    fleet.report("s1", held=[FLOW])
    assert fleet.proved == {("s2", "s1"): 1}


def test_one_server_cannot_have_others_wait(fleet: Fleet) -> None:
    for start in range(0, 640, 32):
        fleet.report("s4", flows(*range(start, start + 32)))
    assert len(fleet.orphans.asked) == MOST_OF_ONE
    fleet.report("s2", [FLOW])
    assert FLOW.asked in fleet.orphans.asked
    for server in ("s1", "s3", "s5"):
        fleet.report(server, flows(*range(1000 * int(server[1]), 1000 * int(server[1]) + 32)))
    assert len(fleet.orphans.asked) == MOST_ASKED


def test_what_is_remembered_is_bounded(fleet: Fleet) -> None:
    for number in range(MOST_DONE // MOST_OF_ONE + 50):
        start = 1 + number * MOST_OF_ONE
        fleet.report("s4", flows(*range(start, start + MOST_OF_ONE)))
        fleet.report("s1", held=flows(*range(start, start + MOST_OF_ONE)))
    assert fleet.proved[("s4", "s1")] == MOST_OF_ONE * (MOST_DONE // MOST_OF_ONE + 50)
    assert len(fleet.orphans._done) == MOST_DONE


def test_reports_that_a_new_controller_finds_are_old() -> None:
    reports = {
        "s1": Report("s1", "a", 9, 0.0, flows=encode_flows(ReportedFlows(held=(FLOW,)))),
        "s2": Report("s2", "a", 9, 0.0, flows=encode_flows(ReportedFlows((FLOW,)))),
    }
    orphans = Orphans()
    for now in range(3):
        orphans.observe(reports, float(now))
    assert orphans.asked == frozenset()
    assert (dict(orphans.proved), dict(orphans.refused)) == ({}, {})


def test_an_agent_that_was_started_again_goes_on(fleet: Fleet) -> None:
    fleet.report("s2", [FLOW], boot_id="b")
    fleet.report("s1", held=[FLOW], boot_id="b")
    assert fleet.proved == {("s2", "s1"): 1}
