"""Wakes any number of long polls from one thread that waits for the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog
from starlette.concurrency import run_in_threadpool

from controlplane.store.contract import AgentStore, StoreError, StoreUnavailable, is_newer

_ROUND_SECONDS = 0.2
_RETRY_SECONDS = 0.25


class Notifier:
    """Lets coroutines wait for newer documents. All but its thread runs in one event loop."""

    def __init__(self, store: AgentStore) -> None:
        self._store = store
        self._kinds: Mapping[str, int] = {}
        self._error: StoreError | None = None
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._log = structlog.get_logger(__name__)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store for the context's life."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        thread = threading.Thread(target=self._follow, name="store-notifier", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            await run_in_threadpool(thread.join)
            self._loop = None

    @property
    def stopping(self) -> bool:
        """Whether long polls are being ended."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all long polls and refuse new ones. May be called from any thread."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    async def wait(self, seen: Mapping[str, int], timeout_seconds: float) -> None:
        """Return when some kind is newer than in ``seen``, or after the timeout.

        Raises ``StoreUnavailable`` when the server stops, and what following the store raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while not is_newer(self._kinds, seen):
            if self._stopping.is_set() or self._changed is None:
                raise StoreUnavailable("the controller is stopping")
            if self._error is not None:
                raise StoreUnavailable(str(self._error))
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - loop.time()))
            except TimeoutError:
                return

    def _follow(self) -> None:
        kinds: Mapping[str, int] = {}
        failing = False
        while not self._stopping.is_set():
            try:
                now = self._store.wait(kinds, _ROUND_SECONDS)
            except StoreError as error:
                if not failing:
                    self._log.warning("cannot follow the store", error=str(error))
                failing = True
                self._pass(kinds, error)
                self._stopping.wait(_RETRY_SECONDS)
                continue
            if failing or now != kinds:
                self._pass(now, None)
            kinds, failing = now, False

    def _pass(self, kinds: Mapping[str, int], error: StoreError | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._update, kinds, error)

    def _update(self, kinds: Mapping[str, int], error: StoreError | None) -> None:
        self._kinds, self._error = kinds, error
        self._wake()

    def _wake(self) -> None:
        """Wake the current waiters; later ones wait for the next change."""
        if self._changed is not None:
            self._changed.set()
            self._changed = asyncio.Event()
