"""Compares settings that were read again with those in use: what changed, what needs a restart.

Settings are here the tables of a file, as TOML has them. A key is spelled with dots, and a table of
a list by its name: ``listen.port``, ``server[s2].dip``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

SHOWN_TYPES = (bool, int, float, str)
SHOWN_CHARACTERS = 60
SHOWN_CHANGES = 20
URLS = ("url", "prometheus_url")
"""A URL may have a password."""


@dataclass(frozen=True)
class Accepted:
    """Settings that were found good: the file's tables, and the content of the files it names.

    ``contents`` is by key: ``listen.token_file``. Paths in ``tables`` are absolute.
    """

    tables: Mapping[str, Any] = field(repr=False)
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def changes(old: Accepted, new: Accepted) -> str:
    """Return what changed, as ``key: old -> new``; never a secret, and empty if nothing did."""
    before, after = dict(_flat(old.tables)), dict(_flat(new.tables))
    lines = [
        f"{key}: {_shown(key, before, after)}"
        for key in [*before, *(key for key in after if key not in before)]
        if key not in before or key not in after or before[key] != after[key]
    ]
    lines += [
        f"{key}: the content of the file changed"
        for key in sorted({*old.contents, *new.contents})
        if old.contents.get(key) != new.contents.get(key)
    ]
    more = len(lines) - SHOWN_CHANGES
    if more > 0:
        lines[SHOWN_CHANGES:] = [f"{more} more"]
    return "; ".join(lines)


def keep(
    old: Mapping[str, Any], new: Mapping[str, Any], fixed: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return ``new`` with the ``fixed`` keys of ``old``, and which of them differ.

    A fixed key is ``key`` or ``table.key``. Where only one side has the table, the whole table is
    kept as it was.
    """
    kept: dict[str, Any] = deepcopy(dict(new))
    differing: list[str] = []
    for key in fixed:
        table, _, inner = key.partition(".")
        if inner and table in old and table in new:
            if not _copy(old[table], kept[table], inner):
                differing.append(key)
        elif not _copy(old, kept, table) and table not in differing:
            differing.append(table)
    return kept, differing


def _copy(source: Mapping[str, Any], target: dict[str, Any], key: str) -> bool:
    """Copy a key from ``source``, or delete it if missing there; return whether it was equal."""
    if (key in source, source.get(key)) == (key in target, target.get(key)):
        return True
    if key in source:
        target[key] = deepcopy(source[key])
    else:
        del target[key]
    return False


def _flat(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, 1):
            yield from _flat(item, f"{key}[{item.get('name', number)}]")
    else:
        yield key, value


def _shown(key: str, before: Mapping[str, object], after: Mapping[str, object]) -> str:
    values = [side[key] for side in (before, after) if key in side]
    if key.rpartition(".")[2] in URLS or not all(isinstance(v, SHOWN_TYPES) for v in values):
        return "changed" if len(values) > 1 else "added" if key in after else "removed"
    texts = [_text(side[key]) if key in side else "not set" for side in (before, after)]
    return " -> ".join(texts)


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
