"""Reports and acknowledgements: repeated until the store has them, whatever it does meanwhile."""

from __future__ import annotations

import pytest

from controlplane.documents.presence import Mark
from controlplane.domain.objects import Origin, PathReport, Report, ServiceHealth
from controlplane.store.contract import StoreConflict, StoreUnavailable
from lb.agent.facts import SharedFacts
from lb.agent.report.store_reports import (
    REPEAT_SECONDS,
    REPORT_SECONDS,
    Acknowledger,
    Reporter,
    compose_report,
)
from tests.unit.lb.agent.fakes import FakeStore

ORIGIN = Origin("10.0.0.1", "boot-a")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def facts() -> SharedFacts:
    return SharedFacts(0.0)


def test_each_generation_is_acknowledged_once(store: FakeStore) -> None:
    acknowledger = Acknowledger(store, "s1", ORIGIN, SharedFacts(0.0))
    acknowledger.acknowledge({"cluster": 1, "table/web": 1})
    assert acknowledger.step() == 0
    acknowledger.acknowledge({"cluster": 1, "table/web": 2})
    acknowledger.step()
    assert store.acknowledged == [("cluster", 1), ("table/web", 1), ("table/web", 2)]


def test_everything_is_acknowledged_again_from_time_to_time(store: FakeStore) -> None:
    """Also where a table is new more often than that."""
    now = [0.0]
    acknowledger = Acknowledger(store, "s1", ORIGIN, SharedFacts(0.0), clock=lambda: now[0])
    for generation in range(1, 6):
        now[0] += REPEAT_SECONDS / 4
        acknowledger.acknowledge({"cluster": 1, "table/web": generation})
        acknowledger.step()
    assert store.acknowledged.count(("cluster", 1)) == 2


def test_an_acknowledgement_is_repeated_until_the_store_has_it(store: FakeStore) -> None:
    acknowledger = Acknowledger(store, "s1", ORIGIN, SharedFacts(0.0))
    store.failure = StoreUnavailable("gone")
    acknowledger.acknowledge({"cluster": 1})
    assert 0 < acknowledger.step() < acknowledger.step()
    acknowledger.acknowledge({"cluster": 2})
    store.failure = None
    acknowledger.step()
    assert store.acknowledged == [("cluster", 2)]


def test_a_thread_that_waits_ends_when_it_is_stopped(store: FakeStore) -> None:
    acknowledger = Acknowledger(store, "s1", ORIGIN, SharedFacts(0.0))
    acknowledger.start()
    acknowledger.acknowledge({"cluster": 1})
    acknowledger.stop()
    acknowledger.join(5)
    assert not acknowledger.is_alive()


def a_report(sequence: int) -> Report:
    return Report("s1", "boot", sequence, 0.0)


def test_reports_keep_a_beat_and_count_on(store: FakeStore, facts: SharedFacts) -> None:
    reporter = Reporter(store, a_report, facts, clock=lambda: 7.0)
    assert 0 < reporter.step() <= REPORT_SECONDS
    reporter.step()
    assert [report.sequence for report in store.reports] == [1, 2]
    assert facts.current.last_contact == 7.0


def test_the_mark_of_an_answer_is_a_fact(store: FakeStore, facts: SharedFacts) -> None:
    store.mark = Mark(3, 4)
    Reporter(store, a_report, facts).step()
    assert facts.current.mark == Mark(3, 4)


def test_a_dead_store_is_tried_again_less_often_but_at_least_every_2_s(
    store: FakeStore, facts: SharedFacts
) -> None:
    reporter = Reporter(store, a_report, facts)
    store.failure = StoreUnavailable("gone")
    pauses = [reporter.step() for _ in range(10)]
    assert pauses[0] == REPORT_SECONDS
    assert max(pauses) == pauses[-1] == 2.0
    assert facts.current.last_contact is None
    store.failure = None
    assert reporter.step() <= REPORT_SECONDS


def test_a_server_whose_name_has_another_dip_neither_reports_nor_acknowledges(
    store: FakeStore, facts: SharedFacts
) -> None:
    facts.update(misnamed=True)
    acknowledger = Acknowledger(store, "s1", ORIGIN, facts)
    acknowledger.acknowledge({"cluster": 1})
    assert acknowledger.step() > 0
    assert Reporter(store, a_report, facts).step() > 0
    assert (store.acknowledged, store.reports) == ([], [])
    facts.update(misnamed=False)
    acknowledger.step()
    assert store.acknowledged == [("cluster", 1)]
    assert store.origins == {ORIGIN}


def test_a_machine_that_the_store_refuses_is_in_trouble_until_it_is_accepted(
    store: FakeStore, facts: SharedFacts
) -> None:
    reporter = Reporter(store, a_report, facts)
    store.failure = StoreConflict("another machine reports as s1")
    assert reporter.step() > 0
    assert not facts.own_name
    assert facts.current.troubles["twin"] == "another machine reports as s1"
    store.failure = None
    reporter.step()
    assert not facts.current.twin
    assert facts.current.troubles == {}


def test_one_that_was_accepted_before_is_not_withdrawn_by_a_single_refusal(
    store: FakeStore, facts: SharedFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter(store, a_report, facts)
    reporter.step()
    store.failure = StoreConflict("another machine reports as s1")
    reporter.step()
    assert facts.current.troubles == {}
    monkeypatch.setattr(reporter, "_may_be_refused_until", 0.0)
    reporter.step()
    assert not facts.own_name


def test_a_report_has_all_facts(facts: SharedFacts) -> None:
    health = {"web": ServiceHealth(healthy=False, reason="refused")}
    facts.update(ready=True, load=0.5, connections=3, checks=health, xdp_mode="native")
    paths = PathReport(2, ("s3",))
    facts.update(refused_cluster=7, path_report=paths)
    facts.update(missing=("redirector",), leaving=True)
    for number in range(20):
        facts.set_trouble(f"topic {number}", f"line {number}")
    report = compose_report(facts.current, "s1", "run", 9, 12.0, "0.1")
    assert (report.server, report.boot_id, report.sequence, report.sent_at) == (
        "s1",
        "run",
        9,
        12.0,
    )
    assert (report.ready, report.load, report.connections) == (True, 0.5, 3)
    assert (report.checks, report.xdp_mode, report.stopped) == (health, "native", False)
    assert (report.refused_cluster, report.paths) == (7, paths)
    assert (report.missing, report.leaving) == (("redirector",), True)
    assert report.errors[0] == "line 0"
    assert len(report.errors) == 8
