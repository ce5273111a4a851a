"""What counts as a fault that was reported by name, and what does not."""

from __future__ import annotations

import json

import pytest

from lb.demo.results import StepResult
from lb.demo.steps.alarms import Alarm, Alarms, Sign, warnings_in

LOG, STATUS = "log of server1", "status of server1"


def alarms() -> Alarms:
    return Alarms(
        [
            Alarm("a VIP is gone", (Sign(LOG, "vips"), Sign(STATUS, "vips"))),
            Alarm("a filter is gone", (Sign(STATUS, "clsact"),)),
        ]
    )


def judged(made: Alarms) -> list[str]:
    result = StepResult("operate")
    made.judge(result)
    return result.failures


def test_a_line_that_names_a_fault_reports_it_and_its_time_is_measured() -> None:
    made = alarms()
    for name in made.alarms:
        made.caused(name, 100.0)
    made.observe(STATUS, ["neighbours: well"], 100.5)
    assert [alarm.name for alarm in made.pending()] == ["a VIP is gone", "a filter is gone"]
    made.observe(LOG, ["put back: vips"], 101.0)
    made.observe(STATUS, ["clsact is gone", "vips are gone"], 102.5)
    assert not made.pending()
    assert made.as_json() == {
        "a VIP is gone": {"seconds": 1.0, "by": LOG},
        "a filter is gone": {"seconds": 2.5, "by": STATUS},
    }
    assert judged(made) == []
    assert made.lines()[0] == "a VIP is gone: reported after 1.0 s by the log of server1"


def test_a_line_of_another_source_or_of_before_reports_nothing() -> None:
    made = alarms()
    made.caused("a filter is gone", 0.0)
    made.observe(LOG, ["clsact"], 1.0)
    assert made.pending(), "only the status counts for this fault"
    made = alarms()
    with pytest.raises(ValueError, match="reported before it happens: vips of yesterday"):
        made.baseline(STATUS, ["vips of yesterday"])
    made.baseline(STATUS, ["all is well"])
    made.observe(STATUS, ["clsact"], 1.0)
    assert made.alarms["a filter is gone"].at is None, "it is not there yet"


def test_old_lines_report_nothing() -> None:
    """The pattern of a fault of today may match a line of yesterday, which stays in a log."""
    made = alarms()
    made.ignore(LOG, ["put back: vips, yesterday"])
    made.caused("a VIP is gone", 0.0)
    made.observe(LOG, ["put back: vips, yesterday"], 1.0)
    assert made.pending()
    made.observe(LOG, ["put back: vips, yesterday", "put back: vips"], 2.0)
    assert not made.pending()


def test_a_fault_that_nothing_reports_or_only_late_is_a_broken_promise() -> None:
    made = alarms()
    made.caused("a VIP is gone", 0.0)
    made.caused("a filter is gone", 0.0)
    made.observe(LOG, ["vips"], 3.1)
    assert judged(made) == [
        "reported only after 3.1 s: a VIP is gone",
        "not reported by anything: a filter is gone",
    ]
    assert made.lines()[1] == "a filter is gone: not reported"


def test_a_fault_that_was_never_caused_is_a_broken_promise() -> None:
    assert len(judged(alarms())) == 2


def test_only_warnings_and_errors_of_a_log_count() -> None:
    lines = [json.dumps({"level": level, "event": level}) for level in ("info", "warning", "error")]
    assert warnings_in("\n".join([lines[0], "no JSON", "[]", *lines[1:], '{"level": "wa'])) == [
        lines[1],
        lines[2],
    ]
