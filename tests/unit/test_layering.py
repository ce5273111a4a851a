"""Who may import whom. docs/architecture.md draws it; both are compared here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.import_graph import (
    Floors,
    SourceTree,
    circles,
    crowded_folders,
    forbidden_imports,
    reached_imports,
    upward_imports,
)

ROOT = Path(__file__).resolve().parents[2]
TREE = SourceTree(ROOT, ("controlplane", "lb", "netns", "tests/model"))
PRODUCT = SourceTree(ROOT, ("controlplane", "lb", "netns"))

CONTRACT = {
    "controlplane.domain",
    "controlplane.documents",
    "controlplane.store",
    "controlplane.settings.toml",
    "controlplane.logs",
}
"""What a server needs of the control plane: what both sides of the store share."""

EXTRA: Mapping[str, set[str]] = {
    "lb.bench": {"controlplane.builder"},  # measures it
    "lb.cli": {"controlplane", "netns"},  # one file a command: has every duty, and no logic
    "lb.demo": {"netns"},  # its servers are namespaces
}
"""What parts of `lb` may import of other packages beside the contract."""

FLOORS = (
    Floors(
        "controlplane",
        (
            {".", "domain", "logs"},
            {"documents"},
            {"settings", "store", "builder"},
            {"decide"},
            {"observe"},
            {"publish"},
            {"controller", "operator"},
        ),
    ),
    Floors(
        "lb",
        (
            {".", "abi", "flow_hash", "paths"},
            {"where", "flow_hashes", "led_here", "dataplane"},
            {"agent"},
            {"trace", "bench", "demo", "dry_run"},
            {"cli"},
        ),
    ),
    Floors(
        "lb.dataplane",
        (
            {"errors", "objects"},
            {"load"},
            {"maps", "ring"},
            {"lookup"},
            {"dataplane"},
            {"pinned"},
            {"traced", "."},
        ),
    ),
    Floors(
        "lb.agent",
        (
            {".", "config", "facts", "machine", "worker"},
            {"netlink"},
            {"attach", "documents", "mss", "path", "ready", "report", "vips"},
            {"watch"},
            {"event_loop"},
            {"up", "down"},
        ),
    ),
)

PURE = {"controlplane.decide", "controlplane.builder"}
IMPURE = {
    *{"time", "datetime", "sched", "signal"},  # clocks
    *{"threading", "concurrent", "asyncio", "multiprocessing", "queue"},  # threads
    *{"socket", "select", "selectors", "ssl", "http", "urllib", "httpx2", "subprocess"},
    *{"controlplane.store", "os", "random", "secrets"},  # the store, the machine, chance
    *{"structlog", "logging", "controlplane.logs"},  # loggers
    "importlib",  # any of them, unseen
}

MODULES_AT_ONE_LEVEL = 16


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("controlplane", {"lb", "netns", "tests", "bcc", "scapy"}),
        ("lb", {"tests"}),
        ("netns", {"lb", "controlplane", "tests"}),
        ("tests.model", {"lb", "controlplane", "netns", "bcc"}),
        ("tests.packets", {"lb", "controlplane", "bcc"}),
    ],
)
def test_folder_imports_nothing_forbidden(folder: str, forbidden: set[str]) -> None:
    assert forbidden_imports(TREE, {folder}, forbidden) == []


def test_the_server_side_imports_only_the_contract_of_the_control_plane() -> None:
    others = {"controlplane", "netns"}
    assert forbidden_imports(TREE, {"lb"}, others, allowed=CONTRACT, except_in=EXTRA) == []


@pytest.mark.parametrize("part", EXTRA)
def test_benchmarks_demo_and_commands_import_what_they_may(part: str) -> None:
    allowed = CONTRACT | EXTRA[part]
    assert forbidden_imports(TREE, {part}, {"controlplane", "netns"}, allowed=allowed) == []


def test_decisions_have_no_clock_thread_socket_store_or_logger() -> None:
    assert forbidden_imports(TREE, PURE, IMPURE) == []


def test_what_decisions_import_has_no_clock_thread_socket_store_or_logger() -> None:
    opens_files = {"os", "importlib"}  # controlplane.settings.toml reads the file
    assert reached_imports(TREE, PURE, IMPURE - opens_files) == []


@pytest.mark.parametrize("floors", FLOORS, ids=lambda floors: floors.package)
def test_nothing_imports_upward(floors: Floors) -> None:
    assert upward_imports(PRODUCT, floors) == []


def test_there_are_no_circles() -> None:
    assert circles(PRODUCT) == []


def test_no_folder_has_too_many_modules() -> None:
    product = SourceTree(ROOT, ("controlplane", "lb"))
    assert crowded_folders(product, MODULES_AT_ONE_LEVEL, except_in={"lb.cli"}) == []


def test_every_floor_is_inhabited() -> None:
    parts = {(f.package, f.part_of(module)) for f in FLOORS for module in PRODUCT.paths}
    written = {(f.package, part) for f in FLOORS for part in f.height}
    assert written - parts == set()


# The check itself, on a small tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("low", "high", "high/inner"):
        (tmp_path / "p" / package).mkdir(parents=True)
        (tmp_path / "p" / package / "__init__.py").touch()
    (tmp_path / "p/__init__.py").touch()
    (tmp_path / "p/low/a.py").write_text("import json\nfrom collections.abc import Mapping\n")
    (tmp_path / "p/high/b.py").write_text("from p.low import a\n")
    (tmp_path / "p/high/inner/c.py").write_text("from p.low.a import Mapping\n")
    return tmp_path


SMALL = Floors("p", ({".", "low"}, {"high"}))


def test_a_tree_without_faults_passes(tree: Path) -> None:
    small = SourceTree(tree, ("p",))
    assert set(small.paths) == {
        *("p", "p.low", "p.high", "p.high.inner"),
        *("p.low.a", "p.high.b", "p.high.inner.c"),
    }
    assert forbidden_imports(small, {"p"}, {"time", "p.high"}) == []
    assert reached_imports(small, {"p"}, {"time"}) == []
    assert upward_imports(small, SMALL) == []
    assert circles(small) == []
    assert crowded_folders(small, 2) == []


IMPORTS = {
    "at the top": "import {}\n",
    "with a name of its own": "import {} as x\n",
    "from it": "from {} import x\n",
    "inside a function": "def f():\n    import {}\n",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import x\n",
    "after an error": "try:\n    import json\nexcept ImportError:\n    import {}\n",
}


@pytest.mark.parametrize("text", IMPORTS.values(), ids=IMPORTS)
def test_every_kind_of_forbidden_import_is_seen(tree: Path, text: str) -> None:
    (tree / "p/low/a.py").write_text(text.format("controlplane.publish"))
    line = text.splitlines().index(next(row for row in text.splitlines() if "{}" in row)) + 1
    (found,) = forbidden_imports(SourceTree(tree, ("p",)), {"p.low"}, {"controlplane"})
    assert found.startswith(f"p/low/a.py:{line} imports controlplane.publish")


@pytest.mark.parametrize("text", IMPORTS.values(), ids=IMPORTS)
def test_every_kind_of_import_from_above_is_seen(tree: Path, text: str) -> None:
    (tree / "p/low/a.py").write_text(text.format("p.high.inner.c"))
    (found,) = upward_imports(SourceTree(tree, ("p",)), SMALL)
    assert found.endswith("imports p.high.inner.c: high is not below low")


@pytest.mark.parametrize("text", ["from ..high import b\n", "from ..high.b import x\n"])
def test_a_relative_import_from_above_is_seen(tree: Path, text: str) -> None:
    (tree / "p/low/a.py").write_text(text)
    assert upward_imports(SourceTree(tree, ("p",)), SMALL) == [
        "p/low/a.py:1 imports p.high.b: high is not below low"
    ]


def test_relative_imports_of_a_package_itself_are_found(tree: Path) -> None:
    (tree / "p/low/__init__.py").write_text("from . import a\nfrom .a import Mapping\n")
    (tree / "p/low/a.py").write_text("from . import z\n")
    imports = SourceTree(tree, ("p",)).imports
    assert [(i.module, i.target) for i in imports if i.module.startswith("p.low")] == [
        ("p.low", "p.low.a"),
        ("p.low", "p.low.a"),
        ("p.low.a", "p.low"),
    ]


def test_an_import_on_the_same_floor_is_seen(tree: Path) -> None:
    assert upward_imports(SourceTree(tree, ("p",)), Floors("p", ({".", "low", "high"},))) == [
        "p/high/b.py:1 imports p.low.a: low is not below high",
        "p/high/inner/c.py:1 imports p.low.a: low is not below high",
    ]


def test_a_part_without_a_floor_is_seen(tree: Path) -> None:
    (tree / "p/attic.py").touch()
    assert upward_imports(SourceTree(tree, ("p",)), SMALL) == ["p: attic is on no floor"]


def test_the_package_itself_has_a_floor(tree: Path) -> None:
    (tree / "p/__init__.py").write_text("from p.high import b\n")
    assert upward_imports(SourceTree(tree, ("p",)), SMALL) == [
        "p/__init__.py:1 imports p.high.b: high is not below ."
    ]


@pytest.mark.parametrize("text", IMPORTS.values(), ids=IMPORTS)
def test_every_kind_of_circle_is_seen(tree: Path, text: str) -> None:
    (tree / "p/low/a.py").write_text(text.format("p.high.b"))
    assert circles(SourceTree(tree, ("p",))) == ["p.high.b -> p.low.a -> p.high.b"]


def test_a_longer_circle_is_seen(tree: Path) -> None:
    (tree / "p/low/a.py").write_text("from p.high.inner import c\n")
    (tree / "p/high/inner/c.py").write_text("from p.high.b import x\n")
    assert circles(SourceTree(tree, ("p",))) == [
        "p.high.b -> p.low.a -> p.high.inner.c -> p.high.b"
    ]


def test_a_module_that_imports_its_own_package_is_a_circle(tree: Path) -> None:
    (tree / "p/low/__init__.py").write_text("from p.low.a import Mapping\n")
    (tree / "p/low/a.py").write_text("from p.low import Mapping\n")
    assert circles(SourceTree(tree, ("p",))) == ["p.low -> p.low.a -> p.low"]


def test_what_is_reached_through_others_is_seen(tree: Path) -> None:
    (tree / "p/low/a.py").write_text("import time\n")
    assert reached_imports(SourceTree(tree, ("p",)), {"p.high"}, {"time"}) == [
        "p/low/a.py:1 imports time"
    ]


def test_what_is_reached_through_an_init_file_is_seen(tree: Path) -> None:
    (tree / "p/low/__init__.py").write_text("import socket\n")
    assert reached_imports(SourceTree(tree, ("p",)), {"p.high.inner"}, {"socket"}) == [
        "p/low/__init__.py:1 imports socket"
    ]


def test_a_crowded_folder_is_seen(tree: Path) -> None:
    (tree / "p/high/more.py").touch()
    small = SourceTree(tree, ("p",))
    assert crowded_folders(small, 2) == ["p.high has 3 modules and sub-packages"]
    assert crowded_folders(small, 2, except_in={"p.high"}) == []
    assert crowded_folders(small, 3) == []
