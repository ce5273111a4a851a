"""`lbctl bench dataplane`: the cost of a packet, as a multiple of the floor.

The floor is a program that decides nothing: it makes space for the encapsulation and writes
constants. The program under test, the floor, and for each of them a program that does nothing with
the same packets, take turns of a few hundred packets. The turns are microseconds apart, so other
load on the machine affects all of them alike. The cost of a program is its difference to the
program that does nothing; the ratio is taken between neighbouring turns. The programs are loaded
several times, because their addresses influence the CPU's branch prediction. Medians are reported.
"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lb.bench.feeder import XDP_ATTACH_TYPE, Harness, Program, under_test
from lb.bench.workload import (
    FLOW_BITS,
    Row,
    egress_rows,
    fill,
    forwarder_rows,
    identity,
    redirector_rows,
)
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.load import bpf_syscall

FLOOR_ROW = "tcp4_ack"
FLOWS_ROW = f"tcp4_ack_2e{FLOW_BITS}_flows"
FLOWS_BESIDE_ONE = f"2e{FLOW_BITS}_flows_beside_one"
"""Row of many flows, compared with the same packets of one flow each and not with the floor."""
CONTROLS = {
    "control_floor_and_a_clock_read": "lb_floor_slower",
    "control_floor_and_itself": "lb_floor",
}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    ``loads`` of the programs, ``rounds`` per load; in each round, ``cycles`` of turns (XDP) and
    ``samples`` (TC).
    """

    loads: int = 4
    rounds: int = 4
    cycles: int = 512
    samples: int = 32

    @classmethod
    def quick(cls) -> Effort:
        """Return a short effort: an estimate, not a measurement."""
        return cls(loads=2, rounds=2, cycles=256, samples=16)


@dataclass(frozen=True)
class Cost:
    """A row's nanoseconds without the harness (TC: with it), and its ratio to the base."""

    name: str
    ns: float
    base: str
    ratio: float
    spread_ns: float


@dataclass
class Measured:
    """All results of a run."""

    floor_ns: float
    noop_tc_ns: float
    rows: list[Cost]
    flows: Cost
    controls: list[Cost]
    harness_ns: float
    programs: dict[str, dict[str, int]] = field(default_factory=dict)
    load_seconds: float = 0.0


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Use only the last allowed CPU, which other processes use least."""
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run with real-time priority on this CPU, if that is allowed, for one round.

    Without it, the median of a busy machine cannot be compared with that of an idle one: other
    processes would run in between and fill the caches.
    """
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, before)


Samples = defaultdict[str, list[float]]
"""Measured numbers, by name."""


def spread(values: Iterable[float]) -> float:
    """Return half of the interquartile range."""
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


RATIO = "ratio of "


def ratios(program: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratios; they are infinite where an interruption made the base zero or less."""
    return np.divide(program, base, out=np.full_like(program, np.inf), where=base > 0)


def _named(name: str, rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row.name == name)


def _one_round(
    harness: Harness,
    dataplane: Dataplane,
    rows: Sequence[Row],
    effort: Effort,
    found: Samples,
    *,
    base_last: bool,
) -> None:
    ack, flows = _named(FLOOR_ROW, rows), _named(FLOWS_ROW, rows)
    floor = harness.floor(ack)

    def beside(base: Program, name: str, program: Program) -> NDArray[np.float64]:
        times = harness.xdp(base, program, effort.cycles, base_last=base_last)
        found["harness"].extend(times[:, 0])
        found[name].extend(times[:, 2])
        found[RATIO + name].extend(ratios(times[:, 2], times[:, 1]))
        return times

    def side_by_side(name: str, program: Program) -> None:
        found["floor"].extend(beside(floor, name, program)[:, 1])

    for name, base in CONTROLS.items():
        side_by_side(name, harness.floor(ack, base))
    one, many = (under_test(dataplane.forwarder_fd, row) for row in (ack, flows))
    beside(one, FLOWS_BESIDE_ONE, many)
    for row in rows:
        if row.program == "forwarder":
            side_by_side(row.name, under_test(dataplane.forwarder_fd, row))
            continue
        nothing = harness.tc(harness.nothing(row), effort.samples)
        program = harness.tc(under_test(_tc_program(dataplane, row), row), effort.samples)
        found["noop_tc"].append(nothing)
        found[row.name].append(program)
        found[RATIO + row.name].append(program / nothing)


def _tc_program(dataplane: Dataplane, row: Row) -> int:
    return dataplane.egress_fd if row.program == "egress" else dataplane.redirector_fd


def _warm_up(harness: Harness, dataplane: Dataplane, rows: Sequence[Row]) -> None:
    ack = _named(FLOOR_ROW, rows)
    for row in rows:
        if row.program != "forwarder":
            harness.tc(under_test(_tc_program(dataplane, row), row), 4)
        else:
            harness.xdp(harness.floor(ack), under_test(dataplane.forwarder_fd, row), 16)


def _describe(dataplane: Dataplane) -> dict[str, dict[str, int]]:
    described = {}
    for name, fd in dataplane.programs().items():
        info = bpf_syscall.prog_info(fd)
        described[name.removeprefix("lb_")] = {
            "instructions": info.instructions,
            "jited_bytes": info.jited_bytes,
            "verified_instructions": info.verified,
        }
    return described


def _result(
    found: Samples,
    rows: Sequence[Row],
    programs: dict[str, dict[str, int]],
    load_seconds: float,
) -> Measured:
    def cost(name: str, base: str) -> Cost:
        return Cost(name, median[name], base, median[RATIO + name], spread(found[name]))

    median = {name: statistics.median(values) for name, values in found.items()}
    return Measured(
        floor_ns=median["floor"],
        noop_tc_ns=median["noop_tc"],
        rows=[cost(row.name, "floor" if row.program == "forwarder" else "noop_tc") for row in rows],
        flows=cost(FLOWS_BESIDE_ONE, FLOOR_ROW),
        controls=[cost(name, "floor") for name in CONTROLS],
        harness_ns=median["harness"],
        programs=programs,
        load_seconds=load_seconds,
    )


def load_identity() -> Dataplane:
    """Load the programs with the attach type of the feeder, because it jumps to them.

    Other feeders of that type can jump to the programs that `--pin` leaves.
    """
    return Dataplane.load(identity(), xdp_attach_type=XDP_ATTACH_TYPE)


def tcp4_ack_frames() -> Sequence[bytes]:
    """Return the packets of the row `tcp4_ack`."""
    return _named(FLOOR_ROW, forwarder_rows()).frames


def measure(effort: Effort, progress: Progress, *, pin: Path | None = None) -> Measured:
    """Load, fill and measure the programs; with `pin`, leave the last load pinned there.

    Raises:
        DataplaneError: the programs do not load, or a result differs from the row.

    """
    rows = [*forwarder_rows(), *redirector_rows(), *egress_rows()]
    found = Samples(list)
    programs: dict[str, dict[str, int]] = {}
    load_seconds = []
    with on_one_cpu() as cpu:
        for load in range(effort.loads):
            progress(f"load {load + 1} of {effort.loads}: compiling and filling")
            with load_identity() as dataplane, Harness(rows) as harness:
                load_seconds.append(dataplane.load_seconds)
                fill(dataplane)
                _warm_up(harness, dataplane, rows)
                for number in range(effort.rounds):
                    progress(
                        f"load {load + 1} of {effort.loads}, round {number + 1} of "
                        f"{effort.rounds}, on CPU {cpu}"
                    )
                    with undisturbed():
                        _one_round(
                            harness, dataplane, rows, effort, found, base_last=number % 2 == 1
                        )
                programs = _describe(dataplane)
                if pin is not None and load == effort.loads - 1:
                    dataplane.pin(pin)
    return _result(found, rows, programs, statistics.median(load_seconds))
