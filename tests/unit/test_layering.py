"""Who may import whom: `lb` may import `controlplane`, never the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: str, forbidden: set[str], *, except_in: tuple[str, ...] = ()) -> list[str]:
    """List the imports of forbidden packages, in the files of a folder except some folders."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / other) for other in except_in)
        for name in imported(path)
        if any(name == package or name.startswith(f"{package}.") for package in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("controlplane", {"lb", "netns", "tests", "bcc", "scapy"}),
        ("netns", {"lb", "tests"}),
        ("tests/model", {"lb", "controlplane", "bcc"}),
        ("tests/packets", {"lb", "controlplane", "bcc"}),
    ],
)
def test_folder_imports_nothing_forbidden(folder: str, forbidden: set[str]) -> None:
    assert offenders(folder, forbidden) == []


def test_what_runs_on_a_server_needs_no_simulated_network() -> None:
    around = {"netns", "lb.bench", "lb.cli", "lb.demo"}
    assert offenders("lb", around, except_in=("lb/bench", "lb/cli", "lb/demo")) == []


def test_lb_imports_no_tests() -> None:
    assert offenders("lb", {"tests"}) == []


def test_the_check_sees_an_import(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("def f():\n    from lb.agent import x\n    import lb.abi as y\n")
    assert list(imported(source)) == ["lb.agent.x", "lb.abi"]
