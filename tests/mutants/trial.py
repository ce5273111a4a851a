"""The trial of a mutant: its tests are green without the patch and one of them fails with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Mutant
from tests.mutants.runner import Outcome, apply_patch, check_shadowing, copied_tree, run_tests

SLOW = "tests/netns"


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
        """Selections seen green without a patch: mutants may share one."""
        self._shadowing_checked = False

    def look_ahead(self, mutants: Iterable[Mutant]) -> None:
        """Run the tests of many mutants without a patch, a folder's at once: programs load once.

        If they are not all green, each mutant's are run by themselves later. So are those in
        ``SLOW``, which gain nothing.
        """
        folders: dict[frozenset[str], list[Mutant]] = {}
        for mutant in mutants:
            places = frozenset(test.partition("::")[0].rpartition("/")[0] for test in mutant.tests)
            if SLOW not in places:
                folders.setdefault(places, []).append(mutant)
        for found in folders.values():
            tests = tuple(dict.fromkeys(test for mutant in found for test in mutant.tests))
            if self._run(tests).green:
                self._green.update(mutant.tests for mutant in found)

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
                return None, f"NOT GREEN without the patch{_counts(outcome)}", outcome.output
            self._green.add(mutant.tests)
        with copied_tree(self._root) as copy:
            refused = apply_patch(copy, mutant.patch)
            if refused is not None:
                return None, "the patch DOES NOT APPLY", refused
            outcome = run_tests(copy, mutant.tests)
        # A test has to run and fail. A program that does not even load, or a fixture that breaks,
        # says nothing about what the tests would notice.
        if outcome.first_failure is None:
            return None, f"SURVIVED{_counts(outcome)}", outcome.output
        return outcome.first_failure, "", outcome.output

    def _run(self, tests: Sequence[str]) -> Outcome:
        with copied_tree(self._root) as copy:
            if not self._shadowing_checked:
                check_shadowing(copy)
                self._shadowing_checked = True
            return run_tests(copy, tests)


def _counts(outcome: Outcome) -> str:
    return (
        f" (exit {outcome.exit_code}: {outcome.passed} passed, {outcome.skipped} skipped, "
        f"{outcome.errors} errors)"
    )
