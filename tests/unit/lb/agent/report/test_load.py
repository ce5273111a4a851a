"""Load: busy time over capacity, averaged over a window; unknown is None, never idle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx2
import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.config import LoadConfig
from lb.agent.report.load import (
    METRIC_MAX_BYTES,
    CgroupLoad,
    MachineLoad,
    MetricLoad,
    Reading,
    Window,
    open_load_source,
    parse_metric,
    parse_proc_stat,
)


def test_a_counters_rate_over_its_capacity() -> None:
    window = Window(2.0)
    for second, busy in enumerate((10.0, 11.0, 12.0, 13.0)):
        window.add(float(second), Reading(busy, capacity=4.0))
    assert window.load() == pytest.approx(0.25)


def test_only_the_window_counts() -> None:
    window = Window(2.0)
    for second in range(10):
        window.add(float(second), Reading(float(second), 1.0))
    for second in range(10, 13):
        window.add(float(second), Reading(9.0, 1.0))
    assert window.load() == pytest.approx(0.0)


def test_too_little_is_unknown() -> None:
    window = Window(2.0)
    assert window.load() is None
    window.add(0.0, Reading(1.0))
    assert window.load() is None
    window.add(0.5, Reading(1.5))
    assert window.load() is None
    window.add(1.0, Reading(2.0))
    assert window.load() == pytest.approx(1.0)


def test_a_restarted_service_is_unknown_for_a_while_not_negative() -> None:
    window = Window(2.0)
    window.add(0.0, Reading(100.0))
    window.add(1.0, Reading(100.5))
    window.add(2.0, Reading(0.1))
    assert window.load() is None
    window.add(3.0, Reading(0.6))
    assert window.load() == pytest.approx(0.5)


def test_failed_readings_make_it_unknown() -> None:
    window = Window(2.0)
    window.add(0.0, Reading(0.0))
    window.add(1.0, Reading(1.0))
    window.forget()
    assert window.load() is None


def test_a_gauge_is_averaged() -> None:
    window = Window(2.0)
    for second, value in enumerate((0.2, 0.4, 0.6)):
        window.add(float(second), Reading(value, counter=False))
    assert window.load() == pytest.approx(0.4)


def test_proc_stat_idle_iowait_and_guests_do_not_count() -> None:
    text = "cpu  100 10 50 1000 500 5 5 30 77 7\ncpu0 1 1\ncpu1 1 1\nintr 5\n"
    assert parse_proc_stat(text, 100) == Reading(2.0, 2.0)


def test_this_machine_has_a_load() -> None:
    reading = MachineLoad().read()
    assert reading.total > 0
    assert reading.capacity >= 1


@pytest.mark.parametrize(("quota", "capacity"), [("50000", 0.5), ("-1", 4.0)])
def test_cgroup_v1_with_and_without_quota(tmp_path: Path, quota: str, capacity: float) -> None:
    (tmp_path / "cpuacct.usage").write_text("1500000000\n")
    (tmp_path / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert CgroupLoad(tmp_path, cpus=4).read() == Reading(1.5, capacity)


@pytest.mark.parametrize("given", ["cpu", "cpuacct"])
def test_cgroup_v1_with_hierarchies_apart(tmp_path: Path, given: str) -> None:
    for hierarchy in ("cpu", "cpuacct"):
        (tmp_path / hierarchy / "web").mkdir(parents=True)
    (tmp_path / "cpuacct/web/cpuacct.usage").write_text("2000000000\n")
    (tmp_path / "cpu/web/cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu/web/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/web/cpu.stat").write_text("nr_periods 0\n")
    assert CgroupLoad(tmp_path / given / "web", cpus=4).read() == Reading(2.0, 0.25)


@pytest.mark.parametrize(("limit", "capacity"), [("150000 100000", 1.5), ("max 100000", 4.0)])
def test_cgroup_v2_with_and_without_quota(tmp_path: Path, limit: str, capacity: float) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert CgroupLoad(tmp_path, cpus=4).read() == Reading(2.5, capacity)


def test_a_missing_cgroup_is_an_error_not_zero(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        CgroupLoad(tmp_path / "gone", cpus=1).read()


PAGE = """# HELP busy_seconds_total x
# TYPE busy_seconds_total counter
busy_seconds_total{worker="1"} 1.5
busy_seconds_total{worker="2 }"} 2.5 1700000000
busy_seconds_totally 99
plain 0.25
"""


def test_samples_of_a_metric_are_summed() -> None:
    assert parse_metric(PAGE, "busy_seconds_total") == 4.0
    assert parse_metric(PAGE, "plain") == 0.25
    with pytest.raises(ValueError, match="no metric absent"):
        parse_metric(PAGE, "absent")


@pytest.mark.parametrize("line", ["busy", "busy{ 1", 'busy{a="1", ="2"} 1', "busy{} x", "busy_ 1"])
def test_a_line_that_cannot_be_read_makes_the_load_unknown(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own messages
        parse_metric(f"{line}\n", "busy")


def test_spaces_and_tabs_are_allowed_where_the_format_allows_them() -> None:
    assert parse_metric('  busy\t{ worker = "1" ,}\t2\nbusy 3 1700000000\n', "busy") == 5


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-0.5", "1e300", "9" * 400])
def test_a_value_that_cannot_be_a_load_is_unknown(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be a load"):
        parse_metric(f"busy {value}\n", "busy")


def test_a_page_of_a_service_is_read_so_far_and_no_farther() -> None:
    body = b"busy 0.5\n" + b"# x\n" * (METRIC_MAX_BYTES // 4)
    for page, trouble in ((b"busy 0.5\n", ""), (body, "too long")):
        source = MetricLoad("http://service/metrics", "busy", counter=False, scale=1.0)
        answer = partial(httpx2.Response, 200, content=page)
        source._client = httpx2.Client(transport=httpx2.MockTransport(lambda _, a=answer: a()))
        if trouble:
            with pytest.raises(ValueError, match=trouble):
                source.read()
        else:
            assert source.read() == Reading(0.5, counter=False)


def test_an_invalid_url_is_an_error_of_the_reading_alone() -> None:
    with pytest.raises(BrigadeError):
        MetricLoad("http://[", "busy", counter=False, scale=1.0).read()


@pytest.mark.parametrize("at", ["127.0.0.1:1", "["])
def test_a_password_in_the_url_is_in_no_message(at: str) -> None:
    with pytest.raises(BrigadeError) as caught:
        MetricLoad(f"http://us:s3cret@{at}/x", "busy", counter=False, scale=1.0).read()
    assert "s3cret" not in str(caught.value)


def test_there_may_be_no_source() -> None:
    assert open_load_source(LoadConfig(source="none")) is None
    assert isinstance(open_load_source(LoadConfig()), MachineLoad)
