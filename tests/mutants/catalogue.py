"""Reads ``mutants.toml``: which fault, which patch, which tests must go red."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
KEYS = {"name", "fault", "tests"}


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
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"cannot be read: {error!r}") from error
    patches = path.parent / "patches"
    mutants = tuple(_mutant(row, patches) for row in rows)
    named = {m.patch for m in mutants}
    if len(named) != len(mutants):
        raise CatalogueError("two mutants of one name")
    strays = named ^ set(patches.glob("*.patch"))
    if strays:
        raise CatalogueError(f"entry without patch or patch without entry: {sorted(strays)}")
    return mutants


def _mutant(row: dict[str, Any], patches: Path) -> Mutant:
    name = row.get("name")
    if set(row) != KEYS:
        raise CatalogueError(f"mutant {name}: has the keys {sorted(row)}, not {sorted(KEYS)}")
    if not row["tests"]:
        raise CatalogueError(f"mutant {name}: no tests")
    return Mutant(str(name), row["fault"], patches / f"{name}.patch", tuple(row["tests"]))
