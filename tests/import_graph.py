"""Who imports whom: the imports of a source tree, and the rules that they can break.

Every import counts: at the top of a module, inside a function, and under `if TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import: the module that has it, the line, and what it imports."""

    module: str
    line: int
    target: str


@dataclass(frozen=True)
class Floors:
    """The order of the parts of a package, lowest first.

    A part is a module or a sub-package; it may import itself and parts of lower floors. "." is the
    package's own `__init__.py`.
    """

    package: str
    floors: Sequence[Collection[str]]

    def part_of(self, module: str) -> str | None:
        """Return the part that a module of this package belongs to, None outside of the package."""
        if module == self.package:
            return "."
        if not is_within(module, [self.package]):
            return None
        return module.removeprefix(f"{self.package}.").partition(".")[0]

    @functools.cached_property
    def height(self) -> Mapping[str, int]:
        """On which floor each part is."""
        return {part: floor for floor, parts in enumerate(self.floors) for part in parts}


@dataclass(frozen=True)
class SourceTree:
    """The modules of some folders below a root, and their imports."""

    root: Path
    folders: Sequence[str]
    paths: dict[str, Path] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for folder in self.folders:
            for path in sorted((self.root / folder).rglob("*.py")):
                parts = path.relative_to(self.root).with_suffix("").parts
                self.paths[".".join(parts).removesuffix(".__init__")] = path

    @functools.cached_property
    def imports(self) -> list[Import]:
        """Every import. The target is the module, where it is one of this tree."""
        return [found for module in self.paths for found in self._imports_of(module)]

    def _imports_of(self, module: str) -> Iterator[Import]:
        path = self.paths[module]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, node.lineno, alias.name)
            elif isinstance(node, ast.ImportFrom):
                package = self._package_of(node, module)
                for alias in node.names:
                    # `from package import name`: a module of that package, or a name in it.
                    submodule = f"{package}.{alias.name}"
                    known = submodule in self.paths or package not in self.paths
                    yield Import(module, node.lineno, submodule if known else package)

    def _package_of(self, node: ast.ImportFrom, module: str) -> str:
        """Return the absolute name of what `from ... import` takes its names from."""
        if not node.level:
            return node.module or ""
        above = node.level - (self.paths[module].name == "__init__.py")
        base = module.split(".")[: -above or None]
        return ".".join([*base, *filter(None, [node.module])])

    def shown(self, found: Import) -> str:
        """Return an import as a line that an editor can open."""
        path = self.paths[found.module].relative_to(self.root)
        return f"{path}:{found.line} imports {found.target}"


def is_within(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of these, or in one of them."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def forbidden_imports(
    tree: SourceTree,
    within: Collection[str],
    forbidden: Collection[str],
    *,
    allowed: Collection[str] = (),
    except_in: Collection[str] = (),
) -> list[str]:
    """List the imports of forbidden packages in some modules, but for what is allowed of them."""
    return [
        tree.shown(found)
        for found in tree.imports
        if is_within(found.module, within)
        and not is_within(found.module, except_in)
        and is_within(found.target, forbidden)
        and not is_within(found.target, allowed)
    ]


def upward_imports(tree: SourceTree, floors: Floors) -> list[str]:
    """List the parts of a package without a floor, and imports from the same or a higher floor."""
    height = floors.height
    parts = {part for module in tree.paths if (part := floors.part_of(module))}
    faults = [f"{floors.package}: {part} is on no floor" for part in sorted(parts - set(height))]
    for found in tree.imports:
        here, there = floors.part_of(found.module), floors.part_of(found.target)
        if here == there or here is None or there is None or not {here, there} <= set(height):
            continue
        if height[there] >= height[here]:
            faults.append(f"{tree.shown(found)}: {there} is not below {here}")
    return faults


def circles(tree: SourceTree) -> list[str]:
    """List the circles: one way round for each import that closes one."""
    targets: dict[str, list[str]] = {module: [] for module in tree.paths}
    for found in tree.imports:
        if found.target in targets and found.target not in targets[found.module]:
            targets[found.module].append(found.target)
    found_circles: list[str] = []
    done: set[str] = set()
    way: list[str] = []

    def visit(module: str) -> None:
        if module in way:
            around = way[way.index(module) :]
            first = around.index(min(around))
            around = [*around[first:], *around[:first]]
            found_circles.append(" -> ".join([*around, around[0]]))
        elif module not in done:
            way.append(module)
            for target in targets[module]:
                visit(target)
            done.add(way.pop())

    for module in targets:
        visit(module)
    return found_circles


def reached_imports(
    tree: SourceTree, within: Collection[str], forbidden: Collection[str]
) -> list[str]:
    """List forbidden imports in every module that some modules need, directly or not.

    Importing `a.b.c` runs `a/__init__.py` and `a/b/__init__.py` as well.
    """
    by_module: dict[str, list[Import]] = {}
    for found in tree.imports:
        by_module.setdefault(found.module, []).append(found)
    open_ones = [module for module in tree.paths if is_within(module, within)]
    seen: set[str] = set()
    while open_ones:
        module = open_ones.pop()
        if module in tree.paths and module not in seen:
            seen.add(module)
            open_ones += _packages_above(module)
            open_ones += [found.target for found in by_module.get(module, ())]
    return [
        tree.shown(found)
        for module in sorted(seen)
        for found in by_module.get(module, ())
        if is_within(found.target, forbidden)
    ]


def _packages_above(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def crowded_folders(tree: SourceTree, limit: int, except_in: Collection[str] = ()) -> list[str]:
    """List the folders with more than `limit` modules and sub-packages."""
    counts: dict[str, int] = {}
    for module in tree.paths:
        package = module.rpartition(".")[0]
        if package and package not in except_in:
            counts[package] = counts.get(package, 0) + 1
    return [
        f"{package} has {count} modules and sub-packages"
        for package, count in sorted(counts.items())
        if count > limit
    ]
