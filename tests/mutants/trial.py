"""The trial of a mutant: its tests are green without the patch and one of them fails with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Mutant
from tests.mutants.runner import Outcome, apply_patch, check_shadowing, copied_tree, run_tests


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
            outcome = self._run(mutant)
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

    def _run(self, mutant: Mutant) -> Outcome:
        with copied_tree(self._root) as copy:
            if not self._shadowing_checked:
                check_shadowing(copy)
                self._shadowing_checked = True
            return run_tests(copy, mutant.tests)


def _counts(outcome: Outcome) -> str:
    return (
        f" (exit {outcome.exit_code}: {outcome.passed} passed, {outcome.skipped} skipped, "
        f"{outcome.errors} errors)"
    )
