"""`lbctl bench dataplane`: what a packet costs, as multiples of a program that decides nothing.

Every round runs every program once, in turn, after one that does nothing, fed with the same
packets; the difference is the program. Programs are loaded anew a few times, because where the JIT
puts one decides over the CPU's branch prediction. Medians of all rounds are reported.
"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lb.bench.feeder import XDP_ATTACH_TYPE, Harness, Program, under_test
from lb.bench.workload import Row, fill, forwarder_rows, identity, redirector_rows
from lb.dataplane import Dataplane, bpf_syscall

FLOOR_ROW = "tcp4_ack"
CONTROL = "control_floor_and_a_clock_read"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long to measure: loads of the programs, rounds of each, samples of 4,096 packets."""

    loads: int = 4
    rounds: int = 8
    samples: int = 16

    @classmethod
    def quick(cls) -> Effort:
        """A look, not a measurement."""
        return cls(loads=2, rounds=4, samples=8)


@dataclass(frozen=True)
class Cost:
    """A row's nanoseconds beyond the harness (TC: with it), and against its base."""

    name: str
    ns: float
    base: str
    ratio: float
    spread_ns: float


@dataclass
class Measured:
    """Everything that a run found out."""

    floor_ns: float
    noop_tc_ns: float
    rows: list[Cost]
    control: Cost
    harness_ns: float
    programs: dict[str, dict[str, int]] = field(default_factory=dict)
    load_seconds: float = 0.0


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Stay on the last CPU that this process may use, which the rest of the machine uses least."""
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run before everything else on this CPU, where that is allowed, for as long as a round takes.

    Only so can a busy machine's median be compared with a quiet one's: what else runs in between
    leaves the caches to others.
    """
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, before)


class Rounds:
    """Collects one number per round and name."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Add one round's number."""
        self.values[name].append(value)

    def median(self, name: str) -> float:
        """The median of all rounds."""
        return statistics.median(self.values[name])

    def spread(self, name: str) -> float:
        """Half of the distance between the quartiles."""
        low, _, high = statistics.quantiles(self.values[name], n=4)
        return (high - low) / 2


def _net(harness: Harness, program: Program, samples: int, rounds: Rounds) -> float:
    """One program's time less that of the program that does nothing, one after the other."""
    nothing = harness.xdp(harness.nothing(program.row), samples)
    rounds.add("harness", nothing)
    return harness.xdp(program, samples) - nothing


def _one_round(
    harness: Harness, dataplane: Dataplane, rows: Sequence[Row], effort: Effort, rounds: Rounds
) -> None:
    ack = next(row for row in rows if row.name == FLOOR_ROW)
    rounds.add("floor", _net(harness, harness.floor(ack), effort.samples, rounds))
    slower = harness.floor(ack, "lb_floor_slower")
    rounds.add(CONTROL, _net(harness, slower, effort.samples, rounds))
    for row in rows:
        if row.name.startswith("redirector"):
            continue
        program = under_test(dataplane.forwarder_fd, row)
        rounds.add(row.name, _net(harness, program, effort.samples, rounds))
    for row in rows:
        if not row.name.startswith("redirector"):
            continue
        rounds.add("noop_tc", harness.tc(harness.nothing(row), effort.samples))
        program = under_test(dataplane.redirector_fd, row)
        rounds.add(row.name, harness.tc(program, effort.samples))


def _warm_up(harness: Harness, dataplane: Dataplane, rows: Sequence[Row]) -> None:
    for row in rows:
        if row.name.startswith("redirector"):
            harness.tc(under_test(dataplane.redirector_fd, row), 4)
        else:
            harness.xdp(under_test(dataplane.forwarder_fd, row), 4)


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
    rounds: Rounds,
    rows: Sequence[Row],
    programs: dict[str, dict[str, int]],
    load_seconds: float,
) -> Measured:
    bases = {"floor": rounds.median("floor"), "noop_tc": rounds.median("noop_tc")}

    def cost(name: str, base: str) -> Cost:
        ns = rounds.median(name)
        return Cost(name, ns, base, ns / bases[base], rounds.spread(name))

    return Measured(
        floor_ns=bases["floor"],
        noop_tc_ns=bases["noop_tc"],
        rows=[
            cost(row.name, "noop_tc" if row.name.startswith("redirector") else "floor")
            for row in rows
        ],
        control=cost(CONTROL, "floor"),
        harness_ns=rounds.median("harness"),
        programs=programs,
        load_seconds=load_seconds,
    )


def load_identity() -> Dataplane:
    """Load the programs as this server, of the attach type that the feeder has: it jumps to them.

    So may others' feeders of that type, to what `--pin` leaves.
    """
    return Dataplane.load(identity(), xdp_attach_type=XDP_ATTACH_TYPE)


def tcp4_ack_frames() -> Sequence[bytes]:
    """The packets of the row `tcp4_ack`."""
    return next(row for row in forwarder_rows() if row.name == FLOOR_ROW).frames


def measure(effort: Effort, progress: Progress, *, pin: Path | None = None) -> Measured:
    """Load, fill and time the programs; with `pin`, leave the last load pinned there.

    Raises:
        DataplaneError: the programs do not load, or do something else than a row says.

    """
    rows = [*forwarder_rows(), *redirector_rows()]
    rounds = Rounds()
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
                        _one_round(harness, dataplane, rows, effort, rounds)
                programs = _describe(dataplane)
                if pin is not None and load == effort.loads - 1:
                    dataplane.pin(pin)
    return _result(rounds, rows, programs, statistics.median(load_seconds))
