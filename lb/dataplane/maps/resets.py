"""Flows for which a reset without ACK has left a VIP (docs/wire.md, section 8), read from maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.counters import possible_cpus


class ResetCounts(NamedTuple):
    """Since the programs were loaded: flows with a first reset in 60 s, and their other resets."""

    first: int
    again: int


class ResetFlows(NamedTuple):
    """Flows (``abi.RESET_FLOW``), each with the monotonic time of its first reset, in ns."""

    flows: NDArray[np.void]
    at: NDArray[np.uint64]

    def between(self, after: int, until: int) -> ResetFlows:
        """Return those whose first reset was later than the one time, and not than the other."""
        which = (self.at > np.uint64(after)) & (self.at <= np.uint64(until))
        return ResetFlows(self.flows[which], self.at[which])


class ResetReader:
    """Reads both maps, whose descriptors the caller owns."""

    def __init__(self, flows: int, counts: int) -> None:
        self._flows = flows
        self._counts = counts
        self._cpus = possible_cpus()

    def counts(self) -> ResetCounts:
        """Return how many resets there were."""
        return ResetCounts(*(self._count(kind) for kind in abi.ResetCount))

    def flows(self) -> ResetFlows:
        """Return the flows that are remembered."""
        keys, values = bpf_syscall.map_read_all(self._flows)
        return ResetFlows(np.frombuffer(keys, abi.RESET_FLOW), np.frombuffer(values, "<u8"))

    def _count(self, kind: abi.ResetCount) -> int:
        raw = bpf_syscall.map_lookup(self._counts, kind, 8 * self._cpus)
        return int(np.frombuffer(raw, "<u8").sum())
