"""Plain words: docstrings, comments, messages and pages use the field's terms.

CONTRIBUTING.md lists the terms. Names in code are not looked at, nor are ADRs: those are history.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("lb", "controlplane", "netns", "bpf", "docs")
PAGES = ("README.md", "CONTRIBUTING.md")
HISTORY = ("docs/adr",)


@dataclass(frozen=True)
class Word:
    """A pattern that texts should not match, and what to write in its place."""

    pattern: str
    better: str


WORDS = (
    # Verbs of speech for everything that a program does
    Word(r"\btold\b", "reported, logged, passed, given"),
    Word(r"\b(tell|tells|telling)\b", "report, show, log, update"),
    Word(r"\b(say|says|saying|said)\b", "report, show, log, specify, contain, mean"),
    Word(r"\b(wish|wishes|wished|wishing)\b", "request"),
    Word(r"\b(post|posts|posted|posting)\b", "update, publish, set"),
    # Words with too many meanings here
    Word(r"\b(sight|sights|sighting|sightings)\b", "view"),
    Word(r"\broom\b", "space, capacity, overhead"),
    # Negation that reads like a translation
    Word(r"(?<![Tt]here )\b(is|are|was|were|be)\s+no\b(?!\s+(longer|more)\b)", "is not a"),
    Word(r"(?<![Tt]here )\b(is|are|was|were|be)\s+none\b", "is not one, does not exist"),
    Word(r"\b(has|have|had)\s+not\s+(the|a|an|any|one|this|that|its)\b", "does not have"),
    Word(r"\bwhat is for it\b", "packets for its address, documents of its kind, ..."),
    # A page that is not in the repository
    Word(r"\bDESIGN\b", "the page in docs/ or the ADR that has it"),
)

LEGITIMATE = {
    ("controlplane/store/file/fleet.py", '"wishes"'): "a directory of stores that exist",
    ("controlplane/store/file/store.py", "wishes/"): "the same",
    ("docs/stores.md", "wishes/<server>"): "the same",
}
"""Texts that may stay: the file and a part of the line, and why."""

C_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]+`")
PLACEHOLDER = re.compile(r"(?<!\{)\{[^{}]*\}")


@dataclass(frozen=True)
class Hit:
    """A word in a file."""

    path: str
    line: int
    word: Word
    found: str

    def __str__(self) -> str:
        found = " ".join(self.found.split())
        return f"{self.path}:{self.line}: {found!r}: better: {self.word.better}"


def blanked(pattern: re.Pattern[str], text: str) -> str:
    """Return the text with what matches as spaces, each line as long as before."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def texts(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield what people read in a file, each with its first line."""
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.STRING and "f" in token.string.split(token.string[-1])[0]:
                yield token.start[0], blanked(PLACEHOLDER, token.string)
            elif token.type in STRINGS:
                yield token.start[0], token.string
    elif path.endswith((".c", ".h")):
        for match in C_TEXT.finditer(source):
            yield source.count("\n", 0, match.start()) + 1, match[0]
    elif path == "CONTRIBUTING.md":
        # Its table of words quotes those that it advises against.
        table = re.compile(r"^## Names\n.*?(?=^## )", re.DOTALL | re.MULTILINE)
        yield 1, blanked(CODE_SPAN, blanked(table, source))
    elif path.endswith(".md"):
        yield 1, blanked(CODE_SPAN, source)


STRINGS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def hits_in(path: str, source: str) -> Iterator[Hit]:
    """Yield the words in a file that should be others."""
    for first, text in texts(path, source):
        for word in WORDS:
            for match in re.finditer(word.pattern, text, re.ASCII):
                line = first + text.count("\n", 0, match.start())
                yield Hit(path, line, word, match[0])


def files() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = [
        str(path.relative_to(ROOT)) for path in found if path.suffix in {".py", ".c", ".h", ".md"}
    ]
    return sorted([*PAGES, *(name for name in names if not name.startswith(HISTORY))])


def test_texts_use_plain_words() -> None:
    unused = set(LEGITIMATE)
    hits = []
    for path in files():
        source = (ROOT / path).read_text(encoding="utf-8")
        lines = source.splitlines()
        for hit in hits_in(path, source):
            excuses = {
                (p, part) for p, part in LEGITIMATE if p == path and part in lines[hit.line - 1]
            }
            unused -= excuses
            if not excuses:
                hits.append(str(hit))
    assert not hits, f"{len(hits)} words:\n" + "\n".join(hits)
    assert not unused, "nothing matches these any more"


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("a.py", '"""What the agent is told."""\n', 1),
        ("a.py", '"""First.\n\nIt is\nno packet.\n"""\n', 3),
        ("a.py", "x = 1  # says so\n", 1),
        ("a.py", 'raise ValueError("the wish is noted")\n', 1),
        ("a.py", 'x = f"{name} tells {count}"\n', 1),
        ("a.py", 'x = (\n    f"a {b}"\n    f"{c} said"\n)\n', 3),
        ("a.py", '"""It has not the DIP."""\n', 1),
        ("a.py", '"""(DESIGN, section 4)"""\n', 1),
        ("a.c", "int x;\n/* one\n * no room */\n", 3),
        ("a.h", "// prober that is none\n", 1),
        ("a.md", "One.\n\nWhat is for it: what is for it.\n", 3),
    ],
)
def test_a_word_is_seen(path: str, source: str, line: int) -> None:
    (hit,) = hits_in(path, source)
    assert str(hit).startswith(f"{path}:{line}: ")
    assert hit.word.better in str(hit)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.py", "told = says(wish)\n"),
        ("a.py", 'x = f"{tell(room)} and {said}"\n'),
        ("a.py", 'x = {"wished_draining": 1, "drop_no_room": 2}\n'),
        ("a.py", '"""There is no such file; it is no longer there, None if there is none."""\n'),
        ("a.py", '"""Headroom, foretold, POST."""\n'),
        ("a.py", "x = value is None\n"),
        ("a.c", "u64 room; /* bytes */\n"),
        ("a.md", "The folder `wishes/` has one file a server.\n"),
        ("CONTRIBUTING.md", "# A\n\n## Names\n\n| say | tell |\n\n## More\n"),
    ],
)
def test_what_is_no_such_word_passes(path: str, source: str) -> None:
    assert list(hits_in(path, source)) == []
