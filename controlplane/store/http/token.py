"""The bearer tokens that agents and the ``http:`` store share."""

from __future__ import annotations

import re
from pathlib import Path

from controlplane.domain.errors import ConfigError
from controlplane.store.contract import StoreDenied, StoreError
from controlplane.store.file.atomic import read_file, refuse_lax, store_errors

MAX_TOKENS = 2
"""The one in use, and during a rotation the one before."""
_MAX_FILE_BYTES = 8192
_MAX_TOKEN_BYTES = 4096
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")


def read_tokens(path: Path | str) -> tuple[str, ...]:
    """Return the one or two tokens in a file that others may not read (mode 0600 or 0400).

    A line has a token, of the characters that RFC 6750, section 2.1, allows. An agent uses the
    first one, a server accepts both. Raises ``ConfigError``; no message contains a token.
    """
    path = Path(path)
    lines = [line.strip() for line in _content(path).splitlines() if line.strip()]
    if not 1 <= len(lines) <= MAX_TOKENS or not all(map(_is_token, lines)):
        raise ConfigError(
            f"token_file {path} does not hold a token: it must be one line (two while a new token "
            "replaces an old one: the new one first) of letters, digits and . _ ~ + / = -, for "
            "instance from: openssl rand -hex 32"
        )
    return tuple(line.decode() for line in lines)


def read_token(path: Path | str) -> str:
    """Return the token that an agent uses, the first in its file. Raises ``ConfigError``."""
    return read_tokens(path)[0]


def _content(path: Path) -> bytes:
    try:
        with store_errors("cannot read token_file"):
            refuse_lax(path.resolve(), 0o077, "600")
            return read_file(path.resolve(), _MAX_FILE_BYTES)
    except StoreDenied as error:
        raise ConfigError(f"token_file: {error}") from error
    except StoreError as error:
        raise ConfigError(str(error)) from error


def _is_token(line: bytes) -> bool:
    return len(line) <= _MAX_TOKEN_BYTES and _TOKEN.fullmatch(line) is not None
