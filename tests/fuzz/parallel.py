"""A campaign on all CPUs: one process for each, which takes rounds until all are done."""

from __future__ import annotations

import os
import queue
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue

from lb.dataplane.maps import grace
from tests.fuzz.campaign import PACKETS_A_ROUND, Findings, Fuzzer

Task = tuple[int, int]
"""A round's number, and its packets."""
MOST_DIFFERENCES = 5
POLL_SECONDS = 1.0
END_SECONDS = 20.0


class WorkerError(RuntimeError):
    """A process of the campaign ended before its work did."""


@dataclass(frozen=True)
class Plan:
    """What a campaign is to do; `only` is the name of one program, and empty for both."""

    seed: int
    packets: int
    first_round: int = 0
    processes: int = 0
    only: str = ""

    def tasks(self) -> list[Task]:
        """Rounds, the last one as long as is left for it."""
        starts = range(0, self.packets, PACKETS_A_ROUND)
        return [
            (self.first_round + number, min(PACKETS_A_ROUND, self.packets - start))
            for number, start in enumerate(starts)
        ]

    def cpus(self) -> list[int]:
        """The CPUs to use, one for each process."""
        allowed = sorted(os.sched_getaffinity(0))
        return allowed[: self.processes or len(allowed)]


def work(
    cpu: int, plan: Plan, tasks: Queue[Task | None], results: Queue[Findings | str | None]
) -> None:
    """Run rounds until there are no more: the life of one process."""
    # answers are limited by CPU, and the model has one
    os.sched_setaffinity(0, {cpu})
    # no packet is in flight between two test runs, so nothing has to wait for one
    grace.GRACE_SECONDS = 0.0
    try:
        fuzzer = Fuzzer(plan.seed, plan.only)
        try:
            while (task := tasks.get()) is not None:
                results.put(fuzzer.round(*task))
        finally:
            fuzzer.close()
    except BaseException:
        results.put(traceback.format_exc())
        raise
    results.put(None)


def run(plan: Plan, progress: Callable[[Findings], None]) -> Findings:
    """Run a campaign; `progress` is called after each round with all findings so far.

    Ends early after a few differences.

    Raises:
        WorkerError: a process ended; its last output.

    """
    context = get_context("spawn")
    tasks: Queue[Task | None] = context.Queue()
    results: Queue[Findings | str | None] = context.Queue()
    cpus = plan.cpus()
    for task in (*plan.tasks(), *[None] * len(cpus)):
        tasks.put(task)
    workers = [
        context.Process(target=work, args=(cpu, plan, tasks, results), daemon=True) for cpu in cpus
    ]
    for worker in workers:
        worker.start()
    try:
        return _collect(workers, results, progress)
    finally:
        _end(workers, tasks, results)


def _collect(
    workers: Sequence[BaseProcess],
    results: Queue[Findings | str | None],
    progress: Callable[[Findings], None],
) -> Findings:
    findings = Findings()
    busy = len(workers)
    while busy and len(findings.differences) < MOST_DIFFERENCES:
        try:
            result = results.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if any(worker.exitcode for worker in workers):
                raise WorkerError("a worker ended without a word") from None
            continue
        if isinstance(result, str):
            raise WorkerError(result)
        if result is None:
            busy -= 1
            continue
        findings.add(result)
        progress(findings)
    return findings


def _end(
    workers: Sequence[BaseProcess],
    tasks: Queue[Task | None],
    results: Queue[Findings | str | None],
) -> None:
    """Stop processes that still work; nothing of theirs outlives them."""
    for unread in (tasks, results):
        unread.cancel_join_thread()
    for worker in workers:
        if worker.exitcode is None:
            worker.join(0.5)
        if worker.exitcode is None:
            worker.terminate()
        worker.join(END_SECONDS)


class Progress:
    """A line on standard error from time to time."""

    def __init__(self, packets: int, every_seconds: float) -> None:
        self._packets, self._every = packets, every_seconds
        self._started = self._last = time.monotonic()

    def __call__(self, findings: Findings) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = findings.packets / (now - self._started)
        left = max(self._packets - findings.packets, 0) / max(rate, 1)
        print(
            f"{findings.packets:,} of {self._packets:,} packets, {rate:,.0f} a second, "
            f"{left:.0f} s left, {len(findings.differences)} differences",
            file=sys.stderr,
        )
