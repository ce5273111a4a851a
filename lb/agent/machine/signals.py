"""Signals that are handled in order, not in the middle of something."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def signals_handled(handle: Callable[[int], object]) -> Iterator[None]:
    """Call `handle` with the number of a signal that requests the end, while the block runs."""
    before = {n: signal.signal(n, lambda number, _: handle(number)) for n in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
