"""Tries one mutant: a copy of the tree, the patch, the tests, the verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Outcome:
    """What one pytest run said: how many tests ran to an end, which failed first, its output."""

    passed: int
    skipped: int
    first_failure: str | None
    exit_code: int
    output: str

    @property
    def green(self) -> bool:
        """Whether something ran, all of it passed and nothing was skipped."""
        return self.exit_code == 0 and self.passed > 0 and self.skipped == 0


@contextmanager
def copied_tree(root: Path = ROOT) -> Iterator[Path]:
    """Yield a temporary copy of the files git tracks (as they are in the work tree)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory(prefix="bb-mutant-") as scratch:
        copy = Path(scratch) / "tree"
        for name in filter(None, listing.split("\0")):
            source = root / name
            if not source.exists():
                continue
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        yield copy


def apply_patch(copy: Path, patch: Path) -> str | None:
    """Apply a patch to a copy, exactly; return what git said if it does not apply."""
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},
    )
    return None if done.returncode == 0 else done.stderr.strip()


def run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run a pytest selection in a copy. The copy's packages shadow the installed ones."""
    report = copy.parent / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [*command, f"--junitxml={report}", *tests],
        cwd=copy,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
        return Outcome(0, 0, None, -1, f"{output}\ntook over {TIMEOUT_SECONDS} s")
    return _read_report(report, process.returncode, output)


def _read_report(report: Path, exit_code: int, output: str) -> Outcome:
    if not report.exists():
        return Outcome(0, 0, None, exit_code, output)
    passed = skipped = 0
    first_failure = None
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None:
            first_failure = first_failure or name
        elif case.find("skipped") is not None:
            skipped += 1
        elif case.find("error") is None:
            passed += 1
    return Outcome(passed, skipped, first_failure, exit_code, output)
