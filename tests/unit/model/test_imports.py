"""The model is independent: it imports the standard library and itself, nothing else."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "model"


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides what it imports"
            yield node.module or ""


def test_there_is_a_model_to_look_at() -> None:
    assert {"forwarder.py", "redirector.py"} <= {path.name for path in MODEL.glob("*.py")}


@pytest.mark.parametrize("path", sorted(MODEL.rglob("*.py")), ids=lambda path: path.name)
def test_imports_nothing_of_the_project(path: Path) -> None:
    foreign = {
        name
        for name in _imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names
        and name != "tests.model"
        and not name.startswith("tests.model.")
    }
    assert foreign == set()
