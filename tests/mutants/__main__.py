"""``python -m tests.mutants [NAME ...]``: try all mutants, or the named ones.

Exit code 0 when each one's tests are green without its patch and one of them fails with it; 1 when
one survives, its patch does not apply, or its tests are not green without it; 2 for a wrong name or
catalogue. The last line is JSON: ``{"mutants": {name: catching test or null}}``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.mutants.catalogue import CatalogueError, load_catalogue
from tests.mutants.runner import ROOT
from tests.mutants.trial import Trials, Verdict


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def describe(verdict: Verdict) -> str:
    """Return what became of a mutant; for one that was not caught, with the end of the output."""
    if verdict.caught_by is not None:
        return f"{verdict.name}: caught by {verdict.caught_by} ({verdict.seconds:.1f} s)"
    tail = "".join(f"\n    {line}" for line in verdict.output.splitlines()[-15:])
    return f"{verdict.name}: {verdict.problem} ({verdict.seconds:.1f} s){tail}"


def main(names: list[str], root: Path = ROOT) -> int:
    """Try the mutants of these names, all without names."""
    began = time.monotonic()
    if {"-h", "--help"} & set(names):
        say(str(__doc__))
        return 0
    try:
        mutants = load_catalogue(root / "tests/mutants/mutants.toml")
    except CatalogueError as error:
        say(f"mutants.toml: {error}")
        return 2
    unknown = set(names) - {m.name for m in mutants}
    if unknown:
        say(f"no such mutant: {', '.join(sorted(unknown))}")
        return 2
    caught: dict[str, str | None] = {}
    chosen = [mutant for mutant in mutants if not names or mutant.name in names]
    for verdict in Trials(root).attempt_all(chosen):
        caught[verdict.name] = verdict.caught_by
        say(describe(verdict))
    left = sorted(name for name, test in caught.items() if test is None)
    say(f"{len(caught) - len(left)} of {len(caught)} caught in {time.monotonic() - began:.0f} s")
    if left:
        say(f"left: {', '.join(left)}")
    say(json.dumps({"mutants": caught}))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
