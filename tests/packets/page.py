"""docs/wire.md as data: the tables of the page itself, for tests that compare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WIRE_MD = Path(__file__).parents[2] / "docs" / "wire.md"

_VERDICTS = {
    "pass": "pass",
    "drop": "drop",
    "transmit": "tx",
    "untouched": "ok",
    "accept": "ok",
    "pass on": "redirect",
}

IN_WORDS = frozenset({"drop_ecn", "drop_fragment", "drop_inner_fragment"})
"""Counters that no line has: sections 4.4, 6.2 and 6.3 name them."""


def section(number: int) -> str:
    """The text of one numbered section."""
    text = WIRE_MD.read_text(encoding="utf-8")
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{WIRE_MD} has no section {number}"
    return found.group(0)


def table_rows(text: str, *, columns: int) -> list[tuple[str, ...]]:
    """The rows of all tables with so many columns, headings included, code marks taken off."""
    rows = (
        tuple(cell.strip().strip("`") for cell in line.strip("| ").split(" | "))
        for line in text.splitlines()
        if line.startswith("| ")
    )
    return [row for row in rows if len(row) == columns]


def spelled_out(text: str) -> bytes:
    """Bytes in hexadecimal, where 000102…0f means counting up."""
    start, ellipsis, end = text.partition("…")
    if not ellipsis:
        return bytes.fromhex(text)
    return bytes(range(int(start[:2], 16), int(end, 16) + 1))


@dataclass(frozen=True)
class Check:
    """One end that a line of section 4 or 6 can have: the verdict in the model's words."""

    verdict: str
    counter: str
    only_for_vip: bool


def checks(number: int) -> dict[str, tuple[Check, ...]]:
    """The lines of the tables of checks in a section, by name, each with its ends, if any.

    Section 4 has lines F and I, section 6 lines R and J.
    """
    lines = re.findall(r"^\| ([FIRJ]\d+b?) \|.*\|([^|]*)\|$", section(number), re.MULTILINE)
    return {line: tuple(_ends(last_cell)) for line, last_cell in lines}


def _ends(cell: str) -> Iterator[Check]:
    for question, words, counter in re.findall(r"(VIP\? )?([a-z]+(?: on)?) `(\w+)`", cell):
        yield Check(_VERDICTS[words], counter, bool(question))


@cache
def _all_checks() -> dict[str, tuple[Check, ...]]:
    return {**checks(4), **checks(6)}


def ends_of(line: str) -> tuple[Check, ...]:
    """The ends of a line; empty for a section's number."""
    return _all_checks().get(line, ())


@cache
def verdict_of(counter: str) -> str:
    """The verdict that a counter stands for: the page has no counter with two."""
    ends = [end for line in _all_checks().values() for end in line if end.counter == counter]
    (verdict,) = {end.verdict for end in ends} or ({"drop"} if counter in IN_WORDS else set())
    return verdict


def counter_names(number: int) -> set[str]:
    """Every counter that a section names."""
    return set(re.findall(r"`((?:pass|drop|tx|ok|accept)_\w+)`", section(number)))
