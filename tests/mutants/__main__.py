"""``python -m tests.mutants [NAME ...]``: try all mutants, or the named ones.

Exit code 0 when each one's tests are green without its patch and a test fails with it; 1 when one
survives, its patch does not apply, or its tests are not green without it. The last line is JSON:
``{"mutants": {name: catching test or null}}``.
"""

from __future__ import annotations

import json
import sys
import time

from tests.mutants.catalogue import Mutant, load_catalogue
from tests.mutants.runner import Outcome, apply_patch, copied_tree, run_tests


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def tail(outcome: Outcome) -> str:
    """Return the last lines of a run's output, indented."""
    return "\n".join(f"    {line}" for line in outcome.output.splitlines()[-15:])


def baseline(mutants: tuple[Mutant, ...]) -> bool:
    """Run the union of all selections without any patch; whether it is green."""
    selection = sorted({test for mutant in mutants for test in mutant.tests})
    say(f"without a patch: {len(selection)} selections")
    with copied_tree() as copy:
        outcome = run_tests(copy, selection)
    say(f"  {outcome.passed} passed, {outcome.skipped} skipped")
    if not outcome.green:
        say(f"  not green (exit {outcome.exit_code}):\n{tail(outcome)}")
    return outcome.green


def attempt(mutant: Mutant) -> str | None:
    """Try one mutant; return the test that caught it, ``None`` if it survived or broke."""
    began = time.monotonic()
    with copied_tree() as copy:
        refused = apply_patch(copy, mutant.patch)
        if refused is not None:
            say(f"{mutant.name}: the patch does not apply: {refused}")
            return None
        outcome = run_tests(copy, mutant.tests)
    seconds = time.monotonic() - began
    # A collection error or a crash of pytest is no catch: a test has to run and fail.
    if outcome.first_failure is None:
        say(f"{mutant.name}: SURVIVED (exit {outcome.exit_code}, {seconds:.1f} s)\n{tail(outcome)}")
    else:
        say(f"{mutant.name}: caught by {outcome.first_failure} ({seconds:.1f} s)")
    return outcome.first_failure


def main(names: list[str]) -> int:
    """Try the mutants of these names, all without names."""
    mutants = load_catalogue()
    unknown = set(names) - {m.name for m in mutants}
    if unknown:
        say(f"no such mutant: {', '.join(sorted(unknown))}")
        return 2
    chosen = tuple(m for m in mutants if not names or m.name in names)
    green = baseline(chosen)
    caught = {mutant.name: attempt(mutant) for mutant in chosen} if green else {}
    say(json.dumps({"mutants": caught}))
    return 0 if green and all(caught.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
