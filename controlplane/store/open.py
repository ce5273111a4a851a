"""Opens a store by its URL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from controlplane.domain.errors import ConfigError
from controlplane.domain.store_url import WEB_SCHEMES, directory_of, is_file
from controlplane.store.contract import AgentStore, ControllerStore
from controlplane.store.file.store import FileStore


def open_agent_store(
    url: str, token_file: Path | None = None, ca_file: Path | None = None
) -> AgentStore:
    """Return the store that an agent's configuration names; nothing is contacted yet.

    ``token_file`` and ``ca_file`` serve ``http:`` and ``https:`` only. Raises ``ConfigError`` for
    an invalid URL, and for a token that is missing or readable by others.
    """
    if is_file(url):
        return FileStore(_directory(url))
    if url.startswith(WEB_SCHEMES):
        from controlplane.store.http.client import HttpStore  # noqa: PLC0415 most agents need no httpx2
        from controlplane.store.http.token import read_token  # noqa: PLC0415

        if token_file is None:
            raise ConfigError(f"store {url} needs a token: set token_file")
        return HttpStore(url, read_token(token_file), ca_file)
    raise ConfigError(
        f"store {url!r} is not a store: use file:DIR, http://HOST:PORT or https://HOST:PORT"
    )


def renew_agent_stores(
    stores: Iterable[AgentStore], token_file: Path | None, ca_file: Path | None
) -> None:
    """Have agents' stores use the token and the authority that are in these files now.

    Raises ``ConfigError`` if a file is missing or wrong; then no store has changed.
    """
    if token_file is None:
        return  # a ``file:`` store
    from controlplane.store.http.client import HttpStore, trust  # noqa: PLC0415 as above
    from controlplane.store.http.token import read_token  # noqa: PLC0415

    token, authorities = read_token(token_file), trust(ca_file)
    for store in stores:
        if isinstance(store, HttpStore):
            store.renew(token, authorities)


def open_controller_store(url: str) -> ControllerStore:
    """Return the store that a controller's configuration names. Raises ``ConfigError``."""
    if is_file(url):
        return FileStore(_directory(url))
    raise ConfigError(f"store {url!r} is not a controller's store: use file:DIR")


def _directory(url: str) -> Path:
    directory = directory_of(url)
    if not directory.is_absolute():
        raise ConfigError(f"store {url!r} does not name a directory: use file:/absolute/path")
    return directory
