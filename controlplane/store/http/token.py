"""The bearer token that agents and the ``http:`` store share."""

from __future__ import annotations

import re
from pathlib import Path

from controlplane.domain.errors import ConfigError
from controlplane.store.contract import StoreDenied, StoreError
from controlplane.store.file.atomic import read_file, refuse_lax, store_errors

_MAX_TOKEN_BYTES = 4096
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")


def read_token(path: Path | str) -> str:
    """Return the token in a file that others may not read (mode 0600 or 0400).

    One line of the characters that RFC 6750, section 2.1, allows. Raises ``ConfigError``; no
    message contains the token.
    """
    path = Path(path)
    try:
        with store_errors("cannot read token_file"):
            refuse_lax(path.resolve(), 0o077, "600")
            data = read_file(path.resolve(), _MAX_TOKEN_BYTES).strip()
    except StoreDenied as error:
        raise ConfigError(f"token_file: {error}") from error
    except StoreError as error:
        raise ConfigError(str(error)) from error
    if not _TOKEN.fullmatch(data):
        raise ConfigError(
            f"token_file {path} does not hold a token: it must be one line of letters, digits and "
            ". _ ~ + / = -, for instance from: openssl rand -hex 32"
        )
    return data.decode()
