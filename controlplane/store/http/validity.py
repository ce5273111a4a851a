"""When certificates end, from their PEM files (RFC 7468, RFC 5280 section 4.1)."""

from __future__ import annotations

import binascii
import re
import time
from calendar import timegm
from collections.abc import Mapping
from pathlib import Path

from controlplane.domain.errors import ConfigError

DAY_SECONDS = 86_400
SOON_DAYS = 7
"""A certificate that ends earlier than this is a TROUBLE."""
PEM = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
VERSION = 0xA0
UTC_TIME = 0x17
LONG_LENGTH = 0x80


def chain_end(path: Path) -> float:
    """Return when a server's chain ends, with its first certificate to end. Unix seconds.

    Raises:
        ConfigError: the file cannot be read.

    """
    return min(_ends(path))


def authorities_end(path: Path) -> float:
    """Return when the last of the authorities in a file ends: the others may be replaced already.

    Raises:
        ConfigError: the file cannot be read.

    """
    return max(_ends(path))


def ending_soon(ends: Mapping[str, float], now: float) -> str | None:
    """Return the TROUBLE about certificates, by the key that names their file; ``None``: none."""
    texts = [
        f"the certificate of {key} {_left(end - now)}"
        for key, end in sorted(ends.items())
        if end - now < SOON_DAYS * DAY_SECONDS
    ]
    if not texts:
        return None
    return f"{'; '.join(texts)}: replace it and reload (docs/stores.md), or agents lose the store"


def _left(seconds: float) -> str:
    if seconds < 0:
        return "has ended"
    days = int(seconds // DAY_SECONDS)
    return f"ends in {days} day{'s' * (days != 1)}" if days else "ends within a day"


def _ends(path: Path) -> list[float]:
    try:
        texts = PEM.findall(path.read_text(encoding="utf-8", errors="replace"))
        found = [_not_after(binascii.a2b_base64(text)) for text in texts]
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: when its certificate ends cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"{path}: has no certificate in PEM form")
    return found


def _not_after(der: bytes) -> float:
    """Return the end of a certificate's validity: the fifth field, the first may be missing."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    fields = 4 if der[at] == VERSION else 3
    for _ in range(fields):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)
    _, _, at = _element(der, at)
    tag, begin, end = _element(der, at)
    text = der[begin:end].decode("ascii")
    if tag == UTC_TIME:  # two digits of the year, section 4.1.2.5.1
        text = ("19" if text[:2] >= "50" else "20") + text
    return float(timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return an element's tag, and where its content begins and ends."""
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & LONG_LENGTH:
        count = length & ~LONG_LENGTH
        length = int.from_bytes(der[begin : begin + count])
        begin += count
    return tag, begin, begin + length
