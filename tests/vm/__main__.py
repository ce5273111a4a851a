"""`python -m tests.vm [--list] [--steps=STEP,...] [NAME...]`: other kernels and other userlands.

Without names all of trials.py, with names (or the beginning of some) those; all steps or some.
Needs root, and what scripts/vm installs. What was fetched and made stays in build/vm; nothing stays
mounted or running.
Exit code 0: all worked; 1: one did not; 2: no such trial. The last line counts them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lb.abi import Slot
from lb.dataplane import dataplane
from lb.dataplane.load import root_array
from netns.network import endings_as_interrupts
from tests.vm import kernels, qemu, roots
from tests.vm.errors import TrialError
from tests.vm.outcome import COLUMNS, Outcome
from tests.vm.running import follow
from tests.vm.sources import Mirrors, Suite, machine_mirrors
from tests.vm.trials import STEPS, TRIALS, Trial

CACHE = roots.PROJECT / "build" / "vm"
TRIAL_SECONDS = 6000.0
OPTION = "--steps="
Say = Callable[[str], None]


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


class Workshop:
    """Makes what trials need, in the cache, and runs them."""

    def __init__(self, cache: Path, steps: Sequence[str]) -> None:
        self.cache = cache
        self._steps = steps
        self.mirrors: Mirrors = machine_mirrors()
        self.empty = cache / "empty"
        self.empty.mkdir(parents=True, exist_ok=True)
        (cache / "logs").mkdir(exist_ok=True)

    def attempt(self, trial: Trial) -> Outcome:
        """Run one trial; what keeps it from running is a problem of its outcome."""
        steps = [step for step in trial.steps if step in self._steps]
        outcome = Outcome(trial.userland, emulated=trial.kernel is not None, steps=steps)
        log = self.cache / "logs" / f"{trial.name}.log"

        def take(line: str) -> None:
            file.write(f"{line}\n")
            say(f"    {line}")
            outcome.take(line)

        with log.open("w", encoding="utf-8") as file:
            try:
                code = follow(
                    self._command(trial, ",".join(steps)), take, TRIAL_SECONDS, env=os.environ
                )
                if code != 0 and not outcome.ended:
                    outcome.problems.append(f"exit code {code}")
            except TrialError as error:
                outcome.problems.append(str(error).partition("\n")[0])
                take(str(error))
        outcome.finish()
        return outcome

    def _command(self, trial: Trial, steps: str) -> list[str]:
        """Have everything that a trial needs, and return what runs it."""
        root = roots.prepare(trial, self.mirrors, self.cache, say)
        write_programs(root / roots.HOME / "build")
        bcc = self.empty
        if trial.bcc is not None:
            bcc = roots.borrow_bcc(trial.bcc, self.mirrors, self.cache, say)
        if trial.kernel is None:
            words = ["trial", str(root), steps, str(bcc), str(self.empty)]
            return ["bash", str(roots.INSIDE), *words]
        suite = Suite(trial.kernel, self.mirrors, self.cache / "apt")
        console = self.cache / "logs" / f"{trial.name}.console"
        return qemu.command(kernels.prepare(suite, self.cache), root, bcc, console, steps)


def write_programs(folder: Path) -> None:
    """Leave the joined sources for guest/load.py, which cannot join them on an old Python."""
    folder.mkdir()
    spec = {
        "source": dataplane.source_text(),
        "programs": dataplane.PROGRAMS,
        "entries": [name for name in dataplane.PIN_NAMES if name in dataplane.PROGRAMS],
        "maps": tuple(dataplane.MAPS),
        "values": dataplane.VALUES,
        "root": (root_array.DEFINE, int(Slot.COUNT)),
    }
    (folder / "programs.json").write_text(json.dumps(spec), encoding="ascii")


def chosen(names: list[str]) -> list[Trial]:
    """Return the trials whose names begin with one of these, all without names."""
    return [t for t in TRIALS if not names or any(t.name.startswith(name) for name in names)]


def main(words: list[str]) -> int:
    """Run the trials and print the table."""
    if words == ["--list"]:
        for trial in TRIALS:
            kernel = (
                f"kernel of {trial.kernel}, emulated" if trial.kernel else "kernel of this host"
            )
            say(f"{trial.name:22} {kernel}; {trial.userland}")
        return 0
    steps: Sequence[str] = STEPS
    for word in [word for word in words if word.startswith(OPTION)]:
        words.remove(word)
        steps = word.removeprefix(OPTION).split(",")
    trials = chosen(words)
    if not trials or any(not chosen([word]) for word in words):
        say(f"no such trial; there are: {' '.join(trial.name for trial in TRIALS)}")
        return 2
    rows: list[str] = []
    failed = 0
    workshop = Workshop(CACHE, steps)
    for trial in trials:
        began = time.monotonic()
        say(f"{trial.name}: {trial.userland}")
        outcome = workshop.attempt(trial)
        rows.append(outcome.row())
        failed += bool(outcome.problems)
        for reason in sorted(set(outcome.skipped)):
            say(f"    not tried: {reason}")
        result = "; ".join(outcome.problems) or "works"
        say(f"{trial.name}: {result} ({time.monotonic() - began:.0f} s)")
    say(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        say(row)
    say(f"logs: {CACHE / 'logs'}")
    say(f"{len(trials) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        with endings_as_interrupts():
            sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted: nothing stays mounted or running")
        sys.exit(130)
