"""The load of this server: busy time over capacity, 1.0 for all of it, ``None`` for unknown.

A source gives (busy seconds so far, capacity in busy seconds a second) or a gauge's value; the
window turns either into one number. Sources read; the window only computes.
"""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain.errors import BrigadeError
from controlplane.domain.urls import split_userinfo
from lb.agent.config import LoadConfig

NANOSECONDS = 1e9
MICROSECONDS = 1e6
PROC_STAT = Path("/proc/stat")
IDLE_FIELDS = (3, 4)
"""idle and iowait, proc(5)."""
GUEST_FIELDS = 8
"""guest and guest_nice, from this field on, are part of user and nice already."""
METRIC_TIMEOUT_SECONDS = 1.0
METRIC_MAX_BYTES = 4 << 20
MOST_BUSY = 1e12
"""A greater value cannot be a count of busy seconds, and does not fit into a report."""
_AFTER_NAME = ("{", " ", "\t")
"""What follows a metric's whole name in its lines."""


@dataclass(frozen=True)
class Reading:
    """``total`` is a counter of busy seconds over ``capacity`` of them a second, or a gauge."""

    total: float
    capacity: float = 1.0
    counter: bool = True


class LoadSource(Protocol):
    """A source of load."""

    def read(self) -> Reading:
        """Return the reading of now. ``OSError``, ``ValueError``, ``BrigadeError``: unknown."""


class Window:
    """The average over the last ``seconds``. Pure: times come as arguments, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._readings: deque[tuple[float, Reading]] = deque()

    def add(self, now: float, reading: Reading) -> None:
        """Add a reading."""
        last = self._readings[-1][1] if self._readings else None
        if last is not None and last.counter and reading.total < last.total:
            self._readings.clear()  # the counter started again with its process
        self._readings.append((now, reading))
        while len(self._readings) > 2 and self._readings[1][0] <= now - self._seconds:  # noqa: PLR2004
            self._readings.popleft()

    def forget(self) -> None:
        """Forget all readings, after one that failed."""
        self._readings.clear()

    def load(self) -> float | None:
        """Return the average, ``None`` while there are too few readings."""
        if not self._readings:
            return None
        first_at, first = self._readings[0]
        last_at, last = self._readings[-1]
        if not last.counter:
            return max(0.0, sum(r.total for _, r in self._readings) / len(self._readings))
        # A rate over a small part of the window is noise.
        if last_at - first_at < self._seconds / 2 or last.capacity <= 0:
            return None
        return max(0.0, (last.total - first.total) / (last_at - first_at) / last.capacity)


def parse_proc_stat(text: str, ticks_per_second: int) -> Reading:
    """Return the machine's busy seconds and its CPUs (proc(5), ``/proc/stat``)."""
    lines = text.splitlines()
    fields = [int(word) for word in lines[0].split()[1:]]
    busy = sum(
        ticks for number, ticks in enumerate(fields[:GUEST_FIELDS]) if number not in IDLE_FIELDS
    )
    cpus = sum(line.startswith("cpu") for line in lines) - 1
    return Reading(busy / ticks_per_second, float(max(1, cpus)))


class MachineLoad:
    """The CPUs of this machine."""

    def read(self) -> Reading:
        """Return busy seconds of all CPUs together."""
        return parse_proc_stat(PROC_STAT.read_text(encoding="ascii"), os.sysconf("SC_CLK_TCK"))


class CgroupLoad:
    """A control group's CPU time against its quota; without one, against the whole machine."""

    def __init__(self, group: Path, cpus: int) -> None:
        self._group = group
        self._cpus = float(cpus)

    def read(self) -> Reading:
        """Return the group's busy seconds, cgroup v2 or v1."""
        usage = self._v1("cpuacct.usage", "cpuacct", "cpu")
        if (self._group / "cpu.stat").exists() and not usage.exists():
            return Reading(self._used_v2(), self._quota_v2())
        return Reading(int(usage.read_text()) / NANOSECONDS, self._quota_v1())

    def _v1(self, name: str, controller: str, other: str) -> Path:
        """Return a controller's file; it is in another hierarchy if ours is that of ``other``."""
        parts = list(self._group.parts)
        if not (self._group / name).exists() and other in parts:
            parts[parts.index(other)] = controller
        return Path(*parts) / name

    def _quota_v1(self) -> float:
        path = self._v1("cpu.cfs_quota_us", "cpu", "cpuacct")
        quota = int(path.read_text())
        return (
            quota / int(path.with_name("cpu.cfs_period_us").read_text())
            if quota > 0
            else self._cpus
        )

    def _used_v2(self) -> float:
        for line in (self._group / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / MICROSECONDS
        raise ValueError(f"{self._group}/cpu.stat has no usage_usec")

    def _quota_v2(self) -> float:
        path = self._group / "cpu.max"
        quota, _, period = path.read_text().partition(" ") if path.exists() else ("max", "", "")
        return self._cpus if quota == "max" else int(quota) / int(period)


def parse_metric(text: str, name: str) -> float:
    """Return the sum of a metric's samples in a Prometheus text page. ``ValueError``: none.

    Only the lines of this metric are parsed: a page may have thousands of others.
    """
    lines = (line.strip() for line in text.splitlines())
    own = [line for line in lines if line.startswith(name) and line[len(name) :][:1] in _AFTER_NAME]
    if not own:
        raise ValueError(f"the page has no metric {name}")
    total = _sum_of_samples("\n".join(own), name)
    if not 0 <= total <= MOST_BUSY:  # NaN fails this comparison too
        raise ValueError(f"metric {name} is {total:g}, which cannot be a load")
    return total


def _sum_of_samples(text: str, name: str) -> float:
    try:
        families = text_string_to_metric_families(text)
        return float(sum(sample.value for family in families for sample in family.samples))
    except IndexError:  # the parser's, for a label without a name
        raise ValueError(f"metric {name} has a line that cannot be read") from None
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


class MetricLoad:
    """A metric that the service exports: a gauge, or a counter of busy seconds."""

    def __init__(self, url: str, metric: str, *, counter: bool, scale: float) -> None:
        self._url, auth = split_userinfo(url)
        self._metric = metric
        self._counter = counter
        self._scale = scale
        self._client = httpx2.Client(timeout=METRIC_TIMEOUT_SECONDS, trust_env=False, auth=auth)

    def read(self) -> Reading:
        """Fetch the page and return the metric over ``scale``."""
        try:
            with self._client.stream("GET", self._url) as answer:
                answer.raise_for_status()
                page = self._page(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise BrigadeError(f"{self._url}: {error}") from error
        value = parse_metric(page, self._metric)
        if self._counter:
            return Reading(value, self._scale)
        return Reading(value / self._scale, counter=False)

    def _page(self, answer: httpx2.Response) -> str:
        received = bytearray()
        for chunk in answer.iter_bytes():
            received += chunk
            if len(received) > METRIC_MAX_BYTES:
                raise ValueError(f"{self._url}: the page is too long")
        return received.decode(errors="replace")


def open_load_source(config: LoadConfig) -> LoadSource | None:
    """Return the source of the settings; ``None``: none."""
    if config.source == "machine":
        return MachineLoad()
    if config.source == "cgroup":
        return CgroupLoad(config.cgroup or Path(), os.cpu_count() or 1)
    if config.source == "metric":
        counter = config.kind == "counter"
        return MetricLoad(
            config.url or "", config.metric or "", counter=counter, scale=config.scale
        )
    return None
