"""Waiting for what happens elsewhere: in the kernel, in another process or thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from netns.errors import NetworkError

POLL_SECONDS = 0.01
DEADLINE_SECONDS = 15.0


class NotInTimeError(NetworkError):
    """A condition did not become true before its deadline."""


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS
) -> float:
    """Poll until a condition is true; return how long that took, in seconds.

    ``what`` completes "waited for": a state ("server1 is ready") or a thing ("a first table").

    Raises:
        NotInTimeError: with ``what``, and the last value of the condition if it has one.

    """
    began = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - began > seconds:
            last = "" if isinstance(value, bool) else f" (last value: {value!r})"
            raise NotInTimeError(f"waited {seconds:g} s in vain for: {what}{last}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
