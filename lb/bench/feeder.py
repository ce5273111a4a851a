"""Measures nanoseconds per packet: a feeder gives the program under test a new packet each time.

bpf/bench/feeder.bpf.c describes how. One feeder serves all programs of a comparison, so its own
address, which influences the CPU's branch prediction, is the same for all of them.
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lb.abi import WRAP_LEN
from lb.bench.workload import Row
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.compile import compile_and_load, join_sources
from lb.dataplane.maps.state import MappedArray
from lb.paths import bpf_dir

FEED_BYTES = 128
TEMPLATES = 4096
STAMPS = 8192
LANES = 4
TURN, MEASURED = 256, 224
STAMPS_A_TURN = 2
MAX_CYCLES = STAMPS // (LANES * STAMPS_A_TURN)
"""Cycles of one run whose times fit into the feeder's memory; in a cycle, each lane has a turn."""
TC_STEP = 512
WORD = (1 << 64) - 1
MULTIPLIER = 0x9E3779B97F4A7C15
NOTHING_XDP, NOTHING_TC = 3, 0


def _words(*names: str) -> list[Any]:
    return [(name, "<u8") for name in names]


LANE = np.dtype(
    _words("first", "templates", "turn", "flow_bits", "targets", "fed", "multiplier", "growth")
)
FEED = np.dtype([
    *_words("packets", "odd", "refused", "last_length", "last_growth", "lane", "left", "turn"),
    *_words("measured", "stamps", "jumped_at", "spent", "clock"),
    ("lanes", LANE, (LANES,)),
    ("stamp", "<u8", (STAMPS,)),
])  # fmt: skip
TARGET = np.dtype([("daddr", "V4"), ("dport", "V2"), ("pad", "<u2")])
TEMPLATE = np.dtype([("length", "<u8"), ("bytes", "u1", (FEED_BYTES,))])
XDP_ATTACH_TYPE = 0
"""`expected_attach_type` of the feeder, and so of the programs that it can jump to."""
MAPS = ("lb_feed", "lb_templates", "lb_flow_targets", "lb_target", "lb_tc_target")
FEEDERS = {"lb_feed_xdp": "XDP", "lb_feed_tc": "SCHED_CLS"}
BASES = {
    "lb_floor": "XDP",
    "lb_floor_slower": "XDP",
    "lb_nothing_xdp": "XDP",
    "lb_nothing_tc": "SCHED_CLS",
}


@dataclass(frozen=True)
class Program:
    """A program under test, with its packets and the expected result."""

    fd: int
    row: Row
    verdict: int
    growth: int


def under_test(fd: int, row: Row) -> Program:
    """Return a program that must have the result of the row for every packet."""
    return Program(fd, row, row.verdict, row.growth)


class Harness:
    """The feeders, and the programs that decide nothing; it must run on one CPU."""

    def __init__(self, rows: Sequence[Row]) -> None:
        folder = bpf_dir()
        self._loaded = [
            compile_and_load(
                join_sources([folder / "bench" / source]),
                include=folder,
                programs=programs,
                maps=maps_of_it,
                xdp_attach_type=XDP_ATTACH_TYPE,
            )
            for source, programs, maps_of_it in (
                ("feeder.bpf.c", FEEDERS, MAPS),
                ("floor.bpf.c", BASES, ()),
            )
        ]
        maps = self._loaded[0].maps
        self.fds = {**self._loaded[0].programs, **self._loaded[1].programs}
        self._targets = {"lb_feed_xdp": maps["lb_target"], "lb_feed_tc": maps["lb_tc_target"]}
        self._feed_memory = MappedArray(maps["lb_feed"], FEED, 1)
        self._template_memory = MappedArray(maps["lb_templates"], TEMPLATE, TEMPLATES)
        self._target_memory = MappedArray(maps["lb_flow_targets"], TARGET, TEMPLATES)
        self._feed: Any = self._feed_memory.values[0]
        self._first: dict[str, int] = {}
        self._flows: dict[tuple[str, int], tuple[int, int]] = {}
        """By row and program: packets fed and multiplier, where the next run continues."""
        self._write_templates(rows)

    def _write_templates(self, rows: Sequence[Row]) -> None:
        at = 0
        for row in rows:
            self._first[row.name] = at
            for frame in row.frames:
                self._template_memory.values["length"][at] = len(frame)
                head = np.frombuffer(frame[:FEED_BYTES], dtype=np.uint8)
                self._template_memory.values["bytes"][at, : len(head)] = head
                at += 1

    def _write_targets(self, row: Row) -> None:
        """Distribute flows over the destinations of a row's frames."""
        for number, frame in enumerate(row.frames):
            self._target_memory.values["daddr"][number] = frame[30:34]
            self._target_memory.values["dport"][number] = frame[36:38]

    def nothing(self, row: Row) -> Program:
        """Return the program that does nothing, with a row's packets: the cost of the harness."""
        if row.program != "forwarder":
            return Program(self.fds["lb_nothing_tc"], row, NOTHING_TC, 0)
        return Program(self.fds["lb_nothing_xdp"], row, NOTHING_XDP, 0)

    def floor(self, row: Row, name: str = "lb_floor") -> Program:
        """Return the floor, with a row's packets."""
        return Program(self.fds[name], row, NOTHING_XDP, WRAP_LEN)

    def _prepare(self, feeder: str, programs: Sequence[Program]) -> bytes:
        """Give each program a lane, and return the longest packet: the input of the run."""
        feed = self._feed
        for name in FEED.names or ():
            feed[name] = 0
        for number, program in enumerate(programs):
            bpf_syscall.map_update(self._targets[feeder], number, struct.pack("=I", program.fd))
            row = program.row
            if row.flow_bits:
                self._write_targets(row)
            fed, multiplier = self._flows.get((row.name, program.fd), (0, MULTIPLIER))
            feed["lanes"][number] = (
                *(self._first[row.name], 1 if row.flow_bits else len(row.frames), 0),
                *(row.flow_bits, len(row.frames), fed, multiplier, program.growth & WORD),
            )
        longest = max((frame for program in programs for frame in program.row.frames), key=len)
        feed["last_length"], feed["last_growth"] = len(longest), programs[-1].growth & WORD
        # the first packet starts the turn of the first program
        feed["lane"], feed["turn"], feed["measured"] = len(programs) - 1, TURN, MEASURED
        return longest

    def _run(self, feeder: str, programs: Sequence[Program], packets: int) -> None:
        """Feed packets; the last packet belongs to the last program."""
        frame = self._prepare(feeder, programs)
        run = bpf_syscall.prog_test_run(self.fds[feeder], frame, repeat=packets, out_size=0)
        last = programs[-1]
        for number, program in enumerate(programs):
            lane = self._feed["lanes"][number]
            self._flows[program.row.name, program.fd] = int(lane["fed"]), int(lane["multiplier"])
        # the buffer of the first packet of a run has not been enlarged before
        odd = int(self._feed["odd"]) - (1 if last.growth else 0)
        refused = int(self._feed["refused"])
        if run.retval != last.verdict or odd or refused:
            raise DataplaneError(
                f"{last.row.name}: verdict {run.retval}, not {last.verdict}; of {packets} "
                f"packets {odd} had a wrong length afterwards, {refused} could not be fed"
            )

    def xdp(
        self, base: Program, program: Program, cycles: int, *, base_last: bool = False
    ) -> NDArray[np.float64]:
        """Measure two programs in turns: nanoseconds per packet, shape (cycles, 3).

        The columns are the cost of the harness with the packets of the base, and the costs of base
        and program, each minus a program that does nothing with the same packets. A cycle takes
        about 80 us. `base_last` exchanges their lanes, in case the position of a lane matters.

        Raises:
            DataplaneError: a program had a wrong result.
            ValueError: more than `MAX_CYCLES`.

        """
        if cycles > MAX_CYCLES:
            raise ValueError(f"{cycles} cycles: at most {MAX_CYCLES}")
        pairs = [(self.nothing(base.row), base), (self.nothing(program.row), program)]
        if base_last:
            pairs.reverse()
        # one more turn, because the end of a turn is noticed at the start of the next
        self._run("lb_feed_xdp", [*pairs[0], *pairs[1]], TURN * LANES * (cycles + 1))
        stamps = self._feed["stamp"][: STAMPS_A_TURN * LANES * cycles].astype(np.int64)
        times = np.diff(stamps.reshape(cycles, LANES, STAMPS_A_TURN))[..., 0] / MEASURED
        if base_last:
            times = np.roll(times, LANES // 2, axis=1)
        return np.stack([times[:, 0], times[:, 1] - times[:, 0], times[:, 3] - times[:, 2]], axis=1)

    def tc(self, program: Program, samples: int) -> float:
        """Return the median over samples of the mean time from the jump to the next packet.

        Samples are short, so that few of them are interrupted. Reading the clock is excluded.
        """
        means = []
        for _ in range(samples):
            self._run("lb_feed_tc", [program], TC_STEP + 1)
            means.append((int(self._feed["spent"]) - int(self._feed["clock"])) / TC_STEP)
        return statistics.median(means)

    def close(self) -> None:
        """Close programs and maps."""
        del self._feed
        self._feed_memory.close()
        self._template_memory.close()
        self._target_memory.close()
        for loaded in self._loaded:
            loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
