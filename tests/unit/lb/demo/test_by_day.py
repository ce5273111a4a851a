"""The judgement of the steps `operate` and `rolling`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lb.demo.results import StepResult
from lb.demo.runner import STEPS, chosen_steps
from lb.demo.scenario import BY_DAY
from lb.demo.steps import operate, rolling
from lb.demo.steps.alarms import Alarms
from lb.demo.steps.experiment import PoolOutcome
from lb.demo.steps.lookout import SERVERS
from lb.demo.steps.rolling import Rolls
from lb.demo.traffic.cohort import BrokenFlow, Count

MINE = BrokenFlow("tcp 1.2.3.4:5", "idle", "server3", "reset")
OTHER = BrokenFlow("udp 1.2.3.4:6", "udp", "server1", "no progress")
OUTCOME = PoolOutcome(Count(210, 52, 0), Count(400, 100, 1), (MINE,), 20.0, 100)
EXPECTED = frozenset({MINE.flow, "tcp 1.2.3.4:7"})


def reported(seconds: float = 1.0) -> Alarms:
    made = operate.alarms_of_the_day()
    for alarm in made.alarms.values():
        alarm.since, alarm.at, alarm.by = 0.0, seconds, alarm.signs[0].source
    return made


def judged(outcome: PoolOutcome, alarms: Alarms) -> StepResult:
    result = StepResult("operate")
    operate.judge(result, outcome, EXPECTED, alarms)
    return result


def test_flows_of_the_killed_and_the_cut_off_server_may_break() -> None:
    result = judged(OUTCOME, reported())
    assert result.ok, result.failures
    assert (result.broken, result.broken_expected, result.tcp_open) == (1, 1, 210)
    assert len(result.as_json()["reports"]) == len(operate.alarms_of_the_day().alarms)


def test_a_flow_of_another_server_breaks_the_promise() -> None:
    result = judged(replace(OUTCOME, broken=(MINE, OTHER)), reported())
    assert not result.ok
    assert (result.broken, result.broken_expected) == (2, 1)
    assert "udp 1.2.3.4:6 (udp at server1)" in result.failures[0]


def test_without_a_flow_that_had_to_break_nothing_was_shown() -> None:
    result = StepResult("operate")
    operate.judge(result, replace(OUTCOME, broken=()), frozenset(), reported())
    assert result.failures == ["no flow was on the killed or the cut-off server"]


@pytest.mark.parametrize("name", list(operate.alarms_of_the_day().alarms))
def test_each_fault_must_be_reported_in_time(name: str) -> None:
    alarms = reported()
    alarms.alarms[name].at = None
    assert judged(OUTCOME, alarms).failures == [f"not reported by anything: {name}"]
    alarms = reported()
    alarms.alarms[name].at = 3.5
    assert judged(OUTCOME, alarms).failures == [f"reported only after 3.5 s: {name}"]


def test_rows_of_servers_that_are_well_report_no_fault() -> None:
    rows = [f"server{n}  10.0.{n}.2  active  speaks  -  -  12 2000" for n in (1, 2, 3, 4, 5)]
    alarms = operate.alarms_of_the_day()
    alarms.baseline(SERVERS, rows)
    rows[2] = rows[2].replace("speaks", "silent")
    alarms.caused(operate.DEAD, 0.0)
    alarms.observe(SERVERS, rows, 1.0)
    assert alarms.alarms[operate.DEAD].line == rows[2]


ROLLS = Rolls(
    seconds=[20.0] * 8,
    waited=[12.0] * 8,
    open_flows=[Count(230, 57, 0), Count(201, 50, 0)],
    flows=3000,
    first_hop=100_000,
    chained=2_000,
)


def judged_rolls(rolls: Rolls) -> StepResult:
    result = StepResult("rolling")
    rolling.judge(result, rolls, 200, 50)
    return result


def test_restarts_that_break_nothing_keep_the_promise() -> None:
    result = judged_rolls(ROLLS)
    assert result.ok, result.failures
    assert (result.tcp_open, result.udp_open, result.daisy_chained) == (201, 50, 2000)
    assert "0 hops forced out; 2000 packets daisy-chained, 2.0% of 100000" in result.shown


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        (replace(ROLLS, broken=[OTHER]), "1 broken: udp 1.2.3.4:6"),
        (replace(ROLLS, seconds=[]), "no server was restarted"),
        (replace(ROLLS, forced=None), "does not count forced hops"),
        (replace(ROLLS, open_flows=[Count(199, 50, 0)]), "only 199 TCP"),
        (replace(ROLLS, open_flows=[Count(200, 49, 0)]), "only 49 UDP"),
        (replace(ROLLS, open_flows=[]), "only 0 TCP"),
    ],
)
def test_restarts_that_break_a_flow_or_had_too_few_break_the_promise(
    changed: Rolls, failure: str
) -> None:
    result = judged_rolls(changed)
    assert not result.ok
    assert any(failure in line for line in result.failures)


def test_a_quick_demo_leaves_the_days_steps_out_unless_they_are_named() -> None:
    assert chosen_steps([], quick=True) == [name for name in STEPS if name not in BY_DAY]
    assert chosen_steps(["operate"], quick=True) == ["operate"]
    assert chosen_steps([]) == list(STEPS)
    assert chosen_steps(["rolling"]) == ["rolling"]
