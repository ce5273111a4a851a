"""docs/architecture.md and CONTRIBUTING.md against the tree and the rules about imports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.import_graph import is_within
from tests.unit.test_layering import CONTRACT, FLOORS, PRODUCT, ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SUFFIXES = r"(?:/|\.py|\.[ch]|\.md|\.toml|\.yaml)"
PATH = re.compile(rf"`((?:bpf|controlplane|docs|lb|netns|scripts|tests)/(?:[\w/.-]*{SUFFIXES})?)`")


def drawn_floors() -> dict[str, list[set[str]]]:
    """The floors in the page's drawings, by package, lowest first."""
    drawings = re.findall(
        r"^```\n((?:controlplane|lb)[\w.]*)\n((?: +.*\n)+)```$", PAGE, re.MULTILINE
    )
    return {
        package: [set(line.split()) for line in reversed(lines.splitlines())]
        for package, lines in drawings
    }


def test_the_contract_is_the_one_that_is_enforced() -> None:
    listed = re.findall(r"^- `(controlplane[\w.]*)`", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(CONTRACT)


def test_the_drawn_floors_are_those_that_are_enforced() -> None:
    assert drawn_floors() == {
        floors.package: [set(parts) - {"."} for parts in floors.floors] for floors in FLOORS
    }


def test_every_package_is_on_the_page() -> None:
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for module, path in PRODUCT.paths.items()
        if path.name == "__init__.py" and is_within(module, ["lb", "controlplane"])
    }
    assert packages <= set(PATH.findall(PAGE))


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_on_the_page_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = PATH.findall(text)
    assert paths
    assert [path for path in paths if not Path(ROOT, path).exists()] == []
