"""Who is silent, by the controller's own clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.domain.objects import Report
from controlplane.observe.heartbeats import Heartbeats, server_views, with_probes


def reports(**sequences: int) -> dict[str, Report]:
    return {name: Report(name, "boot", sequence, 1e9) for name, sequence in sequences.items()}


def test_what_was_there_before_is_not_heard() -> None:
    heartbeats = Heartbeats(100.0)
    heartbeats.observe(reports(a=7), 100.1)
    assert not heartbeats.heard("a")
    heartbeats.observe(reports(a=7), 100.3)
    assert not heartbeats.heard("a")
    heartbeats.observe(reports(a=8), 100.4)
    assert heartbeats.heard("a")
    assert heartbeats.silent_seconds("a", 100.9) == pytest.approx(0.5)


def test_a_server_that_appears_later_is_heard_at_once() -> None:
    heartbeats = Heartbeats(100.0)
    heartbeats.observe({}, 100.1)
    heartbeats.observe(reports(a=1), 100.2)
    assert heartbeats.heard("a")


def test_another_boot_is_heard_even_with_the_same_sequence() -> None:
    heartbeats = Heartbeats(0.0)
    heartbeats.observe(reports(a=1), 0.1)
    heartbeats.observe({"a": Report("a", "other boot", 1, 0.0)}, 0.2)
    assert heartbeats.heard("a")


def test_silence_counts_from_the_start_of_the_controller() -> None:
    heartbeats = Heartbeats(100.0)
    heartbeats.observe(reports(a=7), 100.5)
    assert heartbeats.silent_seconds("a", 101.0) == pytest.approx(1.0)
    assert heartbeats.silent_seconds("never there", 101.0) == pytest.approx(1.0)


def test_the_controllers_own_absence_is_nobodys_silence() -> None:
    heartbeats = Heartbeats(0.0, longest_gap_seconds=1.0)
    heartbeats.observe(reports(a=1), 0.1)
    heartbeats.observe(reports(a=2), 0.2)
    heartbeats.observe(reports(a=2), 60.2)
    assert heartbeats.silent_seconds("a", 60.2) == pytest.approx(1.0)
    assert heartbeats.silent_seconds("never heard", 60.2) == pytest.approx(1.2)


def test_a_server_that_misses_something_is_not_ready_whatever_its_hook_does() -> None:
    """Its routes may still be announced: the hook that withdraws them fails."""
    report = Report("a", "boot", 1, 0.0, ready=True, missing=("vips",))
    heartbeats = Heartbeats(0.0)
    for now in (1.0, 2.0, 3.0):
        heartbeats.observe({"a": report}, now, in_use=["a"])
    assert heartbeats.not_ready_seconds("a", 3.0) == pytest.approx(2.0)
    fine = replace(report, missing=())
    heartbeats.observe({"a": fine}, 4.0, in_use=["a"])
    assert heartbeats.not_ready_seconds("a", 4.0) == 0


def test_views_put_it_together() -> None:
    heartbeats = Heartbeats(0.0)
    heartbeats.observe(reports(a=1), 0.1)
    heartbeats.observe(reports(a=2), 0.9)
    found = server_views(
        ("a", "b", "c"),
        heartbeats,
        1.2,
        silent_after_seconds=1.0,
        reports=reports(a=2),
        acknowledged={"b": {"cluster": 1}},
        drain_requests={"a"},
        configured={"a", "b"},
    )
    found = with_probes(found, {"b": 2}, {})
    a, b, c = found["a"], found["b"], found["c"]
    assert (a.known, a.heard, a.silent, a.alive) == (True, True, False, True)
    assert (b.known, b.heard, b.silent, b.probes_failed) == (True, False, True, 2)
    assert (c.known, c.configured, a.drain_requested) == (False, False, True)
    later = server_views(
        ("a",),
        heartbeats,
        2.0,
        silent_after_seconds=1.0,
        reports=reports(a=2),
        acknowledged={},
        drain_requests=(),
        configured=("a",),
    )
    assert (later["a"].heard, later["a"].silent) == (False, True)


@pytest.mark.parametrize(
    ("now", "ready", "leaving", "withdrawn"),
    [(1.0, True, True, False), (1.0, False, True, True), (2.0, False, False, False)],
    ids=["asks", "has withdrawn", "silent: it may have given up"],
)
def test_a_server_leaves_only_as_long_as_it_asks(
    now: float, *, ready: bool, leaving: bool, withdrawn: bool
) -> None:
    heartbeats = Heartbeats(0.0)
    heartbeats.observe(reports(a=1), 0.1)
    asking = {"a": Report("a", "boot", 2, 0.0, ready=ready, leaving=True)}
    heartbeats.observe(asking, 0.9)
    view = server_views(
        ["a"],
        heartbeats,
        now,
        silent_after_seconds=1.0,
        reports=asking,
        acknowledged={},
        drain_requests=(),
        configured=("a",),
    )["a"]
    assert (view.leaving, view.withdrawn) == (leaving, withdrawn)


def test_the_old_report_of_a_server_that_was_just_added_is_no_heartbeat() -> None:
    """Reports of names that are not in the settings are not read: nobody knows how old it is."""
    beats = Heartbeats(0.0)
    beats.observe(reports(s1=1), 0.0, names=["s1"])
    beats.observe(reports(s1=1, s2=7), 1.0, names=["s1", "s2"])
    assert not beats.heard("s2")
    beats.observe(reports(s1=1, s2=8), 2.0, names=["s1", "s2"])
    assert beats.heard("s2")
    beats.observe(reports(s1=2, s2=8), 3.0, names=["s1", "s2", "s3"])
    beats.observe(reports(s1=2, s2=8, s3=1), 4.0, names=["s1", "s2", "s3"])
    assert beats.heard("s3"), "its first one"
