"""The names that servers, pools, keys and hosts may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
"""A name: 1 to 63 of ``a-z 0-9 . _ -``, never starting with punctuation (so never ``..``)."""

HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
"""A Host header (RFC 9110, section 7.2): a name or an address, and a port if it is not 80."""

LINE = 80
"""Characters of a line on a terminal."""


def is_name(name: str) -> bool:
    """Return whether ``name`` may name a server, a pool or a key."""
    return re.fullmatch(NAME, name) is not None


def is_host_header(text: str) -> bool:
    """Return whether a text may be the Host header of an HTTP request."""
    return re.fullmatch(HOST, text) is not None


def shown(value: object) -> str:
    """Return an untrusted value as text that is safe and short enough for a line of a log."""
    text = ascii(value[:LINE] if isinstance(value, str) else value)
    return text if len(text) <= LINE else f"{text[: LINE - 3]}..."


def printable(text: str, most: int) -> str:
    """Return text of another machine as at most so many characters that are safe to print."""
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(char if char.isprintable() else "?" for char in cut)


def closest(name: str, allowed: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the allowed name that resembles this one most, ``None`` if none does so enough."""
    near = difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=likeness)
    return near[0] if near else None


def guess(name: str, allowed: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` if one of the allowed names is close, else nothing."""
    near = closest(name, allowed)
    return f"did you mean {near!r}? " if near else ""
