"""docs/wire.md as data: what the page itself says, for tests that compare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WIRE_MD = Path(__file__).parents[3] / "docs" / "wire.md"

_VERDICTS = {
    "pass": "pass",
    "drop": "drop",
    "transmit": "tx",
    "untouched": "ok",
    "accept": "ok",
    "pass on": "redirect",
}


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
    lines = re.findall(r"^\| ([FIRJ]\d+) \|.*\|([^|]*)\|$", section(number), re.MULTILINE)
    return {line: tuple(_ends(last_cell)) for line, last_cell in lines}


def _ends(cell: str) -> Iterator[Check]:
    for question, words, counter in re.findall(r"(VIP\? )?([a-z]+(?: on)?) `(\w+)`", cell):
        yield Check(_VERDICTS[words], counter, bool(question))


def only_check(line: str, counter: str = "") -> Check:
    """The end of a line that has one, else the one with this counter."""
    ends = checks(4 if line[0] in "FI" else 6)[line]
    (check,) = [end for end in ends if counter in {"", end.counter}]
    return check


def counter_names(number: int) -> set[str]:
    """Every counter that a section names."""
    return set(re.findall(r"`((?:pass|drop|tx|ok|accept)_\w+)`", section(number)))
