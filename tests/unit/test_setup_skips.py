"""What `tests/conftest.py` makes of a machine without root: skips with advice, or failures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADVICE = "needs root: ask somebody"
NO_MACHINE = f"""
def why_no_root() -> str: return {ADVICE!r}
why_no_netns = why_no_bpf = why_no_root
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Lay out a small project whose machine can do nothing."""
    for folder in ("unit", "dataplane", "netns"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "__init__.py").touch()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "machine.py").write_text(NO_MACHINE)
    for name in ("conftest.py", "needed.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests/unit/test_a.py").write_text(
        "import pytest\ndef test_a(): pass\n@pytest.mark.root\ndef test_b(): assert 0\n"
    )
    (tmp_path / "tests/netns/test_c.py").write_text("def test_c(): assert 0\n")
    (tmp_path / "tests/dataplane/test_d.py").write_text("import no_such_bcc\ndef test_d(): pass\n")
    return tmp_path


def pytest_in(tree: Path, *arguments: str, **settings: str) -> tuple[int, list[str]]:
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment.pop("LB_REQUIRE_ROOT", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=tree,
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout.splitlines()


def test_skips_are_counted_and_explained_in_the_last_lines(tree: Path) -> None:
    code, lines = pytest_in(tree)
    assert code == 0
    assert lines[-4:-1] == [
        f"   1 in tests/dataplane: {ADVICE}",
        f"   1 in tests/netns: {ADVICE}",
        f"   1 in tests/unit: {ADVICE}",
    ]
    assert "1 passed, 3 skipped" in lines[-1]


def test_skips_are_failures_where_root_is_required(tree: Path) -> None:
    code, lines = pytest_in(tree, "--continue-on-collection-errors", LB_REQUIRE_ROOT="1")
    assert code == 1
    assert "1 passed, 3 errors" in lines[-1]


def test_folders_set_the_marker_that_selects_what_sudo_runs(tree: Path) -> None:
    (tree / "tests/dataplane/test_d.py").unlink()
    assert "1 passed, 2 deselected" in pytest_in(tree, "-m", "not root")[1][-1]
    assert "2 skipped, 1 deselected" in pytest_in(tree, "-m", "root")[1][-1]


def test_a_module_that_fails_to_import_is_an_error_elsewhere(tree: Path) -> None:
    (tree / "tests/unit/test_e.py").write_text("import no_such_module\n")
    assert pytest_in(tree, "tests/unit")[0] == 2
