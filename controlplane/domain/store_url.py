"""How settings name a store: ``file:DIR``, ``http://HOST:PORT`` or ``https://HOST:PORT``."""

from __future__ import annotations

from pathlib import Path

FILE_SCHEME = "file:"
WEB_SCHEMES = ("http://", "https://")
TLS_SCHEME = "https://"
DEFAULT_STORE = "file:/var/lib/bucket-brigade/store"


def is_file(url: str) -> bool:
    """Whether the URL names a directory."""
    return url.startswith(FILE_SCHEME)


def file_url(directory: Path | str) -> str:
    """Return the URL of a directory."""
    return f"{FILE_SCHEME}{directory}"


def directory_of(url: str) -> Path:
    """Return the directory that a ``file:`` URL names."""
    return Path(url.removeprefix(FILE_SCHEME))
