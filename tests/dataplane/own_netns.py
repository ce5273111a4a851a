"""A thread of its own in a network namespace of its own, which ends with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from netns.libc import unshare_network

T = TypeVar("T")


def ip(*arguments: str) -> None:
    """Run `ip` where the caller is."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class OwnNetns:
    """Runs functions in a thread that lives in a fresh network namespace with `lo` up.

    Only the thread moves. Programs that it starts, and sockets that it opens, are in there.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, initializer=unshare_network)
        self.run(lambda: ip("link", "set", "lo", "up"))

    def run(self, function: Callable[[], T]) -> T:
        """Call a function in there and return what it returns."""
        return self._pool.submit(function).result(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
