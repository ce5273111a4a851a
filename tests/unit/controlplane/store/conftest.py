"""The stores that the contract is held against, each as a place that can be opened many times.

A new implementation joins by a `Backing` of its own in `BACKINGS`: what it cannot be (the `http:`
store has no controller's part) is served by another store behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from controlplane.store.contract import AgentStore, ControllerStore
from controlplane.store.http.client import HttpStore
from controlplane.store.http.server import ServeConfig, Serving, serve
from controlplane.store.open import open_agent_store, open_controller_store

TOKEN = "a-token-of-tests-0123456789"


class Backing:
    """One store, which `controller()` and `agent()` open as often as a test likes."""

    def __init__(self, url: str, agent_url: str, token_file: Path | None, held: ExitStack) -> None:
        self.url = url
        self._agent_url = agent_url
        self._token_file = token_file
        self._held = held

    def controller(self) -> ControllerStore:
        store = open_controller_store(self.url)
        self._held.callback(store.close)
        return store

    def agent(self) -> AgentStore:
        store = open_agent_store(self._agent_url, self._token_file)
        self._held.callback(store.close)
        return store


def write_token(directory: Path, token: str = TOKEN) -> Path:
    path = directory / "token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


@contextmanager
def file_backing(directory: Path) -> Iterator[Backing]:
    url = f"file:{directory / 'store'}"
    with ExitStack() as held:
        yield Backing(url, url, None, held)


@contextmanager
def http_backing(directory: Path) -> Iterator[Backing]:
    url = f"file:{directory / 'store'}"
    token_file = write_token(directory)
    served = open_controller_store(url)
    with serve(served, ServeConfig("127.0.0.1", 0, token_file)) as serving, ExitStack() as held:
        yield Backing(url, serving.url, token_file, held)
    served.close()


BACKINGS = {"file": file_backing, "http": http_backing}


@pytest.fixture(params=["file"])
def backing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backing]:
    """A store that controllers can open."""
    with BACKINGS[request.param](tmp_path) as backing:
        yield backing


@pytest.fixture(params=["file", "http"])
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backing]:
    """A store that agents can open, each in its own way."""
    with BACKINGS[request.param](tmp_path) as backing:
        yield backing


@pytest.fixture
def controller(backing: Backing) -> ControllerStore:
    return backing.controller()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[ControllerStore, Serving]]:
    """A file store and the server that serves it on loopback."""
    store = open_controller_store(f"file:{tmp_path / 'store'}")
    with serve(store, ServeConfig("127.0.0.1", 0, write_token(tmp_path))) as serving:
        yield store, serving
    store.close()


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def opened(held: ExitStack, url: str, token: str = TOKEN, ca: Path | None = None) -> AgentStore:
    """Open an `http:` store as an agent does, for as long as the test lasts."""
    store = HttpStore(url, token, ca)
    held.callback(store.close)
    return store
