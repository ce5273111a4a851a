"""Reads ``mutants.toml``: which fault, which text to replace, which tests must fail."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEYS = {"name", "fault", "tests"}
CHANGE_KEYS = {"file", "old", "new"}


class CatalogueError(Exception):
    """Rows of the catalogue are wrong, whatever the tree holds; one line for each."""


@dataclass(frozen=True)
class Change:
    """A text in one file, and the text that replaces it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One fault: the changes that make it, and the pytest selection that must catch it."""

    name: str
    fault: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


def load_catalogue(path: Path = HERE / "mutants.toml") -> tuple[Mutant, ...]:
    """Read the catalogue.

    Raises:
        CatalogueError: it cannot be read, or rows have wrong keys, no effect or the same name.

    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"cannot be read: {error!r}") from error
    names = Counter(row.get("name") for row in rows)
    wrong = [f"{name}: two mutants have this name" for name, count in names.items() if count > 1]
    wrong += [f"{row.get('name')}: {fault}" for row in rows if (fault := _fault_in(row))]
    if wrong:
        raise CatalogueError("\n".join(wrong))
    return tuple(
        Mutant(
            row["name"],
            row["fault"],
            tuple(Change(**change) for change in _changes_of(row)),
            tuple(row["tests"]),
        )
        for row in rows
    )


def _changes_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the changes of a row: its list of them, or the one whose keys it has itself."""
    if "change" in row:
        return list(row["change"])
    return [{key: row[key] for key in row.keys() & CHANGE_KEYS}]


def _fault_in(row: Mapping[str, Any]) -> str | None:
    allowed = KEYS | ({"change"} if "change" in row else CHANGE_KEYS)
    if set(row) != allowed:
        return f"has the keys {sorted(row)}, not {sorted(allowed)}"
    if not row["tests"]:
        return "has no tests"
    changes = _changes_of(row)
    if not changes:
        return "has no changes"
    for change in changes:
        if set(change) != CHANGE_KEYS:
            return f"a change has the keys {sorted(change)}, not {sorted(CHANGE_KEYS)}"
        if not change["old"]:
            return "`old` is empty"
        if change["old"] == change["new"]:
            return "`new` is the same as `old`"
    return None
