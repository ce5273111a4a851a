"""Reads ``mutants.toml``: which fault, which patch, which tests must go red."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent


class CatalogueError(Exception):
    """The catalogue itself is wrong."""


@dataclass(frozen=True)
class Mutant:
    """One fault: a patch below ``patches/`` and the pytest selection that must catch it."""

    name: str
    fault: str
    patch: Path
    tests: tuple[str, ...]


def load_catalogue(path: Path = HERE / "mutants.toml") -> tuple[Mutant, ...]:
    """Read the catalogue. Raises ``CatalogueError`` if a patch and its entry do not match up."""
    rows = tomllib.loads(path.read_text())["mutant"]
    patches = path.parent / "patches"
    mutants = tuple(
        Mutant(r["name"], r["fault"], patches / f"{r['name']}.patch", tuple(r["tests"]))
        for r in rows
    )
    named = {m.patch for m in mutants}
    if len(named) != len(mutants):
        raise CatalogueError("two mutants of one name")
    strays = named ^ set(patches.glob("*.patch"))
    if strays:
        raise CatalogueError(f"entry without patch or patch without entry: {sorted(strays)}")
    if any(not m.tests for m in mutants):
        raise CatalogueError("a mutant without tests")
    return mutants
