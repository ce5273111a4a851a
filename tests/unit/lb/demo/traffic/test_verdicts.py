"""When a flow counts as broken, with simulated time."""

from __future__ import annotations

import math

import pytest

from lb.demo.traffic.verdicts import (
    PATIENCE_SECONDS,
    Outcome,
    Patience,
    UdpVerdict,
    deviations,
    max_over_mean,
)


def outcome_of(verdict: UdpVerdict) -> Outcome:
    """A call, so that a type checker does not think that it never changes."""
    return verdict.outcome


def test_patience_counts_from_when_data_is_due() -> None:
    patience = Patience()
    assert not patience.is_over(100.0)
    patience.due(100.0)
    patience.due(104.0)
    assert not patience.is_over(105.0)
    assert patience.is_over(105.1)


def test_progress_restarts_the_limit_and_done_ends_it() -> None:
    patience = Patience()
    patience.due(0.0)
    patience.progress(4.9)
    assert not patience.is_over(9.8)
    assert patience.is_over(10.0)
    patience.done()
    assert not patience.is_over(1000.0)


def test_a_udp_flow_stays_with_its_first_server() -> None:
    verdict = UdpVerdict()
    for second in range(20):
        verdict.query_sent(second)
        verdict.answered("server1", second + 0.4)
    assert outcome_of(verdict) is Outcome.GOOD
    assert verdict.server == "server1"
    verdict.answered("server2", 20.0)
    assert outcome_of(verdict) is Outcome.OTHER_SERVER
    assert verdict.server == "server1"


def test_a_udp_flow_may_lose_packets_but_not_be_silent_for_longer_than_patience() -> None:
    verdict = UdpVerdict()
    verdict.query_sent(0.0)
    verdict.answered("server1", 0.1)
    for step in range(1, 10):
        verdict.query_sent(step * 0.5)
    verdict.answered("server1", 5.0)
    assert outcome_of(verdict) is Outcome.GOOD
    for step in range(11, 24):
        verdict.query_sent(step * 0.5)
    assert outcome_of(verdict) is Outcome.SILENT


def test_a_udp_flow_that_is_never_answered_is_silent() -> None:
    verdict = UdpVerdict()
    verdict.query_sent(0.0)
    verdict.tick(PATIENCE_SECONDS)
    assert outcome_of(verdict) is Outcome.GOOD
    verdict.tick(PATIENCE_SECONDS + 0.01)
    assert outcome_of(verdict) is Outcome.SILENT


def test_an_answer_after_the_limit_changes_nothing() -> None:
    verdict = UdpVerdict()
    verdict.query_sent(0.0)
    verdict.answered("server1", 5.2)
    assert outcome_of(verdict) is Outcome.SILENT


def test_an_answer_to_another_query_is_wrong_content() -> None:
    verdict = UdpVerdict()
    verdict.query_sent(0.0)
    verdict.garbled()
    assert outcome_of(verdict) is Outcome.WRONG_CONTENT


@pytest.mark.parametrize(
    ("values", "ratio"),
    [([0.5, 0.5], 1.0), ([1.0, 0.5, 0.25], 1.0 / (1.75 / 3)), ([0.2], 1.0)],
)
def test_max_over_mean(values: list[float], ratio: float) -> None:
    assert max_over_mean(values) == pytest.approx(ratio)


@pytest.mark.parametrize("values", [[], [0.0, 0.0]])
def test_missing_measurements_are_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no utilisation"):
        max_over_mean(values)


def test_deviations_are_those_of_a_binomial() -> None:
    # 2,000 connections, a quarter each: mean 500, deviation sqrt(375).
    assert deviations(500, 2000, 0.25) == 0.0
    assert deviations(500 + 77, 2000, 0.25) == pytest.approx(77 / math.sqrt(375))
    assert deviations(422, 2000, 0.25) > 4.0 > deviations(423, 2000, 0.25)


def test_a_share_of_zero_or_one_has_no_variance() -> None:
    assert deviations(0, 2000, 0.0) == 0.0
    assert deviations(1, 2000, 0.0) == math.inf
    assert deviations(2000, 2000, 1.0) == 0.0
    assert deviations(1999, 2000, 1.0) == math.inf
