"""Flows of mixed lifetimes that replace each other."""

from __future__ import annotations

import random

import pytest

from lb.demo.traffic.churn import ChurnSchedule, log_uniform, make_places, read_options
from lb.demo.traffic.flows import Download, Flow, Idle, Target, UdpFlow
from lb.demo.traffic.verdicts import Outcome

LIFETIME = 10.0
TARGET = Target("192.0.2.40", 80)


class Fake(Flow):
    """Open from its first visit on; ends one visit after it is told to finish."""

    breaks = False

    def visit(self, now: float) -> float:
        self.opened = True
        self.name = f"tcp {id(self)}"
        if self.breaks:
            self.outcome = Outcome.RESET
        if self.finishing or self.breaks:
            self.close()
        return 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("lb.demo.traffic.churn.time.monotonic", lambda: now[0])
    return now


def run(schedule: ChurnSchedule, clock: list[float], until: float) -> None:
    while clock[0] < until:
        clock[0] = max(clock[0] + 0.01, min(until, schedule.visit_due(clock[0])))


def test_each_flow_is_completed_after_its_lifetime_and_replaced(clock: list[float]) -> None:
    schedule = ChurnSchedule([lambda: Fake(TARGET)] * 3, lambda: LIFETIME, 0.0, clock[0])
    run(schedule, clock, 100 + 3.5 * LIFETIME)
    assert schedule.count() == {"tcp": 3, "udp": 0, "broken": 0}
    assert len(schedule.flows) == 12
    assert all(flow.finishing and flow.ended for flow in schedule.flows[:9])
    schedule.finish(clock[0])
    schedule.visit_due(clock[0])
    assert schedule.has_ended
    assert schedule.verdict() == {"flows": 12, "broken": []}


def test_a_broken_flow_is_counted_and_replaced(clock: list[float]) -> None:
    first = Fake(TARGET)
    first.breaks = True
    flows = iter([first, Fake(TARGET)])
    schedule = ChurnSchedule([lambda: next(flows)], lambda: LIFETIME, 0.0, clock[0])
    run(schedule, clock, 101)
    assert schedule.count() == {"tcp": 1, "udp": 0, "broken": 1}
    assert len(schedule.verdict()["broken"]) == 1


def test_a_place_without_a_next_flow_stays_empty(clock: list[float]) -> None:
    flows = iter([Fake(TARGET)])
    schedule = ChurnSchedule([lambda: next(flows, None)], lambda: LIFETIME, 0.0, clock[0])
    run(schedule, clock, 100 + 2 * LIFETIME)
    assert schedule.count() == {"tcp": 0, "udp": 0, "broken": 0}
    assert schedule.has_ended


def test_a_flow_that_stays_is_completed_when_its_server_leaves(clock: list[float]) -> None:
    flow = Fake(TARGET)
    flow.server = "server3"
    flows = iter([flow, Fake(TARGET)])
    schedule = ChurnSchedule(
        [lambda: next(flows)], lambda: LIFETIME, 0.0, clock[0], stays=lambda: True
    )
    schedule.note("leaves server4")
    run(schedule, clock, 100 + 50 * LIFETIME)
    assert not has_ended(flow)
    schedule.note("leaves server3")
    run(schedule, clock, clock[0] + 1 + 1.5 * LIFETIME)
    assert has_ended(flow)
    assert len(schedule.flows) == 2
    schedule.note("is back server3")
    with pytest.raises(ValueError, match="unknown command 'jump'"):
        schedule.note("jump")


def has_ended(flow: Flow) -> bool:
    return flow.ended  # asked anew: a type checker does not see that visits change it


def test_lifetimes_are_mixed_between_both_limits() -> None:
    source = random.Random(1)
    lifetimes = sorted(log_uniform(source, 1.0, 20.0) for _ in range(1000))
    assert lifetimes[0] >= 1.0
    assert lifetimes[-1] <= 20.0
    assert 4.0 < lifetimes[500] < 5.0


def test_no_two_udp_flows_have_the_same_port() -> None:
    words = ["--vip", "192.0.2.40", "--file", "/a", "--downloads", "2", "--idle", "1"]
    words += ["--udp", "2", "--udp-source-port", "10000", "--udp-ports", "3"]
    flows = [place() for place in make_places(read_options(words)) * 2]
    ports = [flow.source_port for flow in flows if isinstance(flow, UdpFlow)]
    assert sorted(ports) == [10000, 10001, 10002], "the fourth is not made"
    assert sum(isinstance(flow, Download) for flow in flows) == 4
    assert sum(isinstance(flow, Idle) for flow in flows) == 2
