"""What a trial is made of: a copy of the tree, and tests run in it."""

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
END_SECONDS = 30
# Root may work in a user's tree.
GIT = ("git", "-c", "safe.directory=*")
# The same examples each time: a mutant is not caught on some days only.
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
WHERE_FROM = "import {0}; print({0}.__file__)"


class TrialError(Exception):
    """A trial would prove nothing: the tests do not run on the copy."""


@dataclass(frozen=True)
class Outcome:
    """What one pytest run reported: passes, skips, errors, the first failure, its output.

    ``errors`` are failures of fixtures and of collecting: neither green nor a catch.
    """

    passed: int
    skipped: tuple[str, ...]
    errors: int
    first_failure: str | None
    exit_code: int
    output: str

    @property
    def green(self) -> bool:
        """Whether something ran, all of it passed and nothing was skipped."""
        return self.exit_code == 0 and self.passed > 0 and not self.skipped


@contextmanager
def copied_tree(root: Path = ROOT) -> Iterator[Path]:
    """Yield a temporary copy of the files git tracks (as they are in the work tree)."""
    listing = subprocess.run(
        [*GIT, "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory(prefix="bb-mutant-") as scratch:
        copy = Path(scratch) / "tree"
        copy.mkdir()
        for name in filter(None, listing.split("\0")):
            source = root / name
            if not source.exists():
                continue
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        yield copy


def environment(copy: Path) -> dict[str, str]:
    """Return the environment in which the copy's packages shadow the installed ones.

    Programs that the tests start inherit it.
    """
    return {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


def check_shadowing(copy: Path) -> None:
    """Make sure that a program started anywhere imports the copy's packages.

    Raises:
        TrialError: it imports something else.

    """
    for package in sorted(path.parent.name for path in copy.glob("*/__init__.py")):
        done = subprocess.run(
            [sys.executable, "-c", WHERE_FROM.format(package)],
            cwd="/",
            env=environment(copy),
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout.startswith(f"{copy}/"):
            said = (done.stdout or done.stderr).strip()
            raise TrialError(f"package {package} is not imported from the copy: {said}")


def run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run a pytest selection in a copy, until the first failure."""
    report = copy.parent / "report.xml"
    report.unlink(missing_ok=True)
    # the older format says which file a test is in
    options = [f"--junitxml={report}", "-o", "junit_family=xunit1"]
    process = subprocess.Popen(
        [sys.executable, *PYTEST, *options, *tests],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        output = f"{_ended(process)}\ntook over {TIMEOUT_SECONDS} s"
        return Outcome(0, (), 1, None, -1, output)
    except KeyboardInterrupt:
        _ended(process)
        raise
    return _read_report(report, process.returncode, output)


def _ended(process: subprocess.Popen[str]) -> str:
    """Interrupt pytest, which then cleans up behind its tests, and return what it said."""
    process.send_signal(2)
    try:
        return process.communicate(timeout=END_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _read_report(report: Path, exit_code: int, output: str) -> Outcome:
    if not report.exists():
        return Outcome(0, (), 1, None, exit_code, output)
    passed = errors = 0
    skipped: list[str] = []
    first_failure = None
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None:
            first_failure = first_failure or _node_id(case)
        elif case.find("error") is not None:
            errors += 1
        elif case.find("skipped") is not None:
            skipped.append(_node_id(case))
        else:
            passed += 1
    return Outcome(passed, tuple(skipped), errors, first_failure, exit_code, output)


def _node_id(case: ET.Element) -> str:
    """Return a test's name as pytest takes it on its command line."""
    file = case.get("file", "")
    module = file.removesuffix(".py").replace("/", ".")
    classes = case.get("classname", "").removeprefix(module).strip(".")
    return "::".join(filter(None, (file, *classes.split("."), case.get("name"))))
