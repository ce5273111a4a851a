"""The trial of a mutant: its tests are green without the fault and one of them fails with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Mutant
from tests.mutants.changes import MismatchError, apply_changes
from tests.mutants.runner import Outcome, check_shadowing, copied_tree, run_tests

SLOW = "tests/netns/"
"""Whole networks, where things have to happen in time: nothing else runs beside them."""
JOBS = 2


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. Not caught: why, and what the tests printed."""

    name: str
    caught_by: str | None = None
    problem: str = ""
    output: str = ""
    seconds: float = 0.0


class Trials:
    """Tries mutants of one tree, each alone on copies of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._green: set[tuple[str, ...]] = set()
        """Selections seen green without a fault: mutants may share one."""
        self._shadowing_checked = False

    def attempt_all(self, mutants: Iterable[Mutant]) -> Iterator[Verdict]:
        """Try many, ``JOBS`` at a time; at last and one by one those with tests in ``SLOW``.

        Raises:
            TrialError: the tests would not run on the copy.

        """
        quick: list[Mutant] = []
        slow: list[Mutant] = []
        for mutant in mutants:
            (slow if any(test.startswith(SLOW) for test in mutant.tests) else quick).append(mutant)
        with ThreadPoolExecutor(JOBS) as pool:
            for _ in pool.map(self._look_ahead, _by_folder(quick)):
                pass
            yield from pool.map(self.attempt, quick)
        yield from map(self.attempt, slow)

    def _look_ahead(self, mutants: Sequence[Mutant]) -> None:
        """Run the tests of many mutants without a fault, all at once: programs load once.

        If they are not all green, each mutant's are run by themselves later.
        """
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        if self._run(tests).green:
            self._green.update(mutant.tests for mutant in mutants)

    def attempt(self, mutant: Mutant) -> Verdict:
        """Try one mutant.

        Raises:
            TrialError: the tests would not run on the copy.

        """
        began = time.monotonic()
        caught_by, problem, output = self._attempt(mutant)
        return Verdict(mutant.name, caught_by, problem, output, time.monotonic() - began)

    def _attempt(self, mutant: Mutant) -> tuple[str | None, str, str]:
        if mutant.tests not in self._green:
            outcome = self._run(mutant.tests)
            if not outcome.green:
                return None, f"NOT GREEN without the fault{_counts(outcome)}", outcome.output
            self._green.add(mutant.tests)
        with copied_tree(self._root) as copy:
            try:
                apply_changes(copy, mutant.changes)
            except MismatchError as error:
                return None, "the row DOES NOT MATCH the tree", str(error)
            outcome = run_tests(copy, mutant.tests)
        # These tests ran without the fault, on this machine: the code under test decided to skip.
        if outcome.skipped:
            skipped = ", ".join(outcome.skipped)
            return None, f"SKIPPED with the fault, not without it: {skipped}", outcome.output
        # A test has to run and fail. A program that does not even load, or a fixture that breaks,
        # does not show what the tests would notice.
        if outcome.first_failure is None:
            return None, f"SURVIVED{_counts(outcome)}", outcome.output
        return outcome.first_failure, "", outcome.output

    def _run(self, tests: Sequence[str]) -> Outcome:
        with copied_tree(self._root) as copy:
            if not self._shadowing_checked:
                check_shadowing(copy)
                self._shadowing_checked = True
            return run_tests(copy, tests)


def _by_folder(mutants: Iterable[Mutant]) -> Iterable[Sequence[Mutant]]:
    """Group mutants by where their tests are."""
    found: dict[frozenset[str], list[Mutant]] = {}
    for mutant in mutants:
        folders = frozenset(test.partition("::")[0].rpartition("/")[0] for test in mutant.tests)
        found.setdefault(folders, []).append(mutant)
    return found.values()


def _counts(outcome: Outcome) -> str:
    return (
        f" (exit {outcome.exit_code}: {outcome.passed} passed, {len(outcome.skipped)} skipped, "
        f"{outcome.errors} errors)"
    )
