"""Try all mutants, or the named ones.

Exit code 0 when each one's tests are green without its fault and one of them fails with it; 1 when
one survives, a test skips itself because of it, or its tests are not green without it; 2 for a
wrong name, catalogue or row. The last line is JSON: {"mutants": {name: catching test or null}}.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.catalogue import CatalogueError, Mutant, load_catalogue
from tests.mutants.changes import mismatches
from tests.mutants.runner import ROOT
from tests.mutants.trial import Trials, Verdict


def report(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def describe(verdict: Verdict) -> str:
    """Return what became of a mutant; for one that was not caught, with the end of the output."""
    if verdict.caught_by is not None:
        return f"{verdict.name}: caught by {verdict.caught_by} ({verdict.seconds:.1f} s)"
    tail = "".join(f"\n    {line}" for line in verdict.output.splitlines()[-15:])
    return f"{verdict.name}: {verdict.problem} ({verdict.seconds:.1f} s){tail}"


def main(words: Sequence[str], root: Path = ROOT) -> int:
    """Try the mutants of these names, all without names; with ``--check`` only match their rows."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="only match the rows with the tree")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args(words)
    try:
        chosen = _choose(load_catalogue(root / "tests/mutants/mutants.toml"), options.names, root)
    except CatalogueError as error:
        report(f"mutants.toml: {error}")
        return 2
    if options.check:
        report(f"{len(chosen)} rows match the tree")
        return 0
    return _try_all(chosen, root)


def _choose(mutants: Sequence[Mutant], names: Sequence[str], root: Path) -> Sequence[Mutant]:
    """Return the named mutants, whose rows match the tree.

    Raises:
        CatalogueError: one does not exist or does not match.

    """
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise CatalogueError(f"does not have {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not names or mutant.name in names]
    found = mismatches(root, chosen)
    if found:
        lines = [f"{name}: {reason}" for name, reason in found.items()]
        raise CatalogueError("\n".join([f"{len(lines)} rows do not match the tree", *lines]))
    return chosen


def _try_all(mutants: Sequence[Mutant], root: Path) -> int:
    began = time.monotonic()
    caught: dict[str, str | None] = {}
    for verdict in Trials(root).attempt_all(mutants):
        caught[verdict.name] = verdict.caught_by
        report(describe(verdict))
    left = sorted(name for name, test in caught.items() if test is None)
    report(f"{len(caught) - len(left)} of {len(caught)} caught in {time.monotonic() - began:.0f} s")
    if left:
        report(f"left: {', '.join(left)}")
    report(json.dumps({"mutants": caught}))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
