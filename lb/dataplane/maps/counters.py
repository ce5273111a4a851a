"""Reads the per-CPU counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lb import abi
from lb.dataplane.load import bpf_syscall

POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")


def possible_cpus() -> int:
    """Return how many values a per-CPU element has: "0-3,8" is nine, one up to the highest CPU."""
    last = POSSIBLE_CPUS.read_text(encoding="ascii").strip().replace("-", ",").split(",")[-1]
    return int(last) + 1


class CounterReader:
    """Sums of per-CPU elements of the two counter maps."""

    def __init__(self, counters_fd: int, stats_fd: int) -> None:
        self._counters_fd = counters_fd
        self._stats_fd = stats_fd
        self._cpus = possible_cpus()

    def verdicts(self) -> dict[str, int]:
        """Every verdict counter by its name in docs/wire.md."""
        return {
            name: int(np.frombuffer(self._element(self._counters_fd, index, 8), "<u8").sum())
            for index, name in enumerate(abi.COUNTERS)
        }

    def service(self, index: int) -> tuple[int, int]:
        """Packets and bytes of one service."""
        raw = self._element(self._stats_fd, index, abi.SERVICE_STATS.itemsize)
        values = np.frombuffer(raw, abi.SERVICE_STATS)
        return int(values["packets"].sum()), int(values["bytes"].sum())

    def zero_service(self, index: int) -> None:
        """Set a service's counters to zero."""
        empty = bytes(abi.SERVICE_STATS.itemsize * self._cpus)
        bpf_syscall.map_update(self._stats_fd, index, empty)

    def _element(self, fd: int, index: int, size: int) -> bytes:
        return bpf_syscall.map_lookup(fd, index, size * self._cpus)
