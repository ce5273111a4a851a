"""Who is silent, by the controller's own clock."""

from __future__ import annotations

import pytest

from controlplane.domain.objects import Report
from controlplane.observe.heartbeats import Watch, views


def reports(**sequences: int) -> dict[str, Report]:
    return {name: Report(name, "boot", sequence, 1e9) for name, sequence in sequences.items()}


def test_what_was_there_before_is_not_heard() -> None:
    watch = Watch(100.0)
    watch.observe(reports(a=7), 100.1)
    assert not watch.heard("a")
    watch.observe(reports(a=7), 100.3)
    assert not watch.heard("a")
    watch.observe(reports(a=8), 100.4)
    assert watch.heard("a")
    assert watch.silent_seconds("a", 100.9) == pytest.approx(0.5)


def test_a_server_that_appears_later_is_heard_at_once() -> None:
    watch = Watch(100.0)
    watch.observe({}, 100.1)
    watch.observe(reports(a=1), 100.2)
    assert watch.heard("a")


def test_another_boot_is_heard_even_with_the_same_sequence() -> None:
    watch = Watch(0.0)
    watch.observe(reports(a=1), 0.1)
    watch.observe({"a": Report("a", "other boot", 1, 0.0)}, 0.2)
    assert watch.heard("a")


def test_silence_counts_from_the_start_of_the_controller() -> None:
    watch = Watch(100.0)
    watch.observe(reports(a=7), 100.5)
    assert watch.silent_seconds("a", 101.0) == pytest.approx(1.0)
    assert watch.silent_seconds("never there", 101.0) == pytest.approx(1.0)


def test_the_controllers_own_absence_is_nobodys_silence() -> None:
    watch = Watch(0.0, longest_gap_seconds=1.0)
    watch.observe(reports(a=1), 0.1)
    watch.observe(reports(a=2), 0.2)
    watch.observe(reports(a=2), 60.2)
    assert watch.silent_seconds("a", 60.2) == pytest.approx(1.0)
    assert watch.silent_seconds("never heard", 60.2) == pytest.approx(1.2)


def test_views_put_it_together() -> None:
    watch = Watch(0.0)
    watch.observe(reports(a=1), 0.1)
    watch.observe(reports(a=2), 0.9)
    found = views(
        ("a", "b", "c"),
        watch,
        1.2,
        silent_after_seconds=1.0,
        reports=reports(a=2),
        acknowledged={"b": {"cluster": 1}},
        probes_failed={"b": 2},
        wished={"a"},
        configured={"a", "b"},
    )
    a, b, c = found["a"], found["b"], found["c"]
    assert (a.known, a.heard, a.silent, a.alive) == (True, True, False, True)
    assert (b.known, b.heard, b.silent, b.probes_failed) == (True, False, True, 2)
    assert (c.known, c.configured, a.wished_draining) == (False, False, True)
    later = views(
        ("a",),
        watch,
        2.0,
        silent_after_seconds=1.0,
        reports=reports(a=2),
        acknowledged={},
        probes_failed={},
        wished=(),
        configured=("a",),
    )
    assert (later["a"].heard, later["a"].silent) == (False, True)
