"""When the kernel last sent a SYN cookie: a connection that no socket shows yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

NETSTAT = Path("/proc/thread-self/net/netstat")
"""Counters of the network namespace of this thread (proc(5))."""
LOOK_SECONDS = 120.0
"""A cookie is accepted for at most this long (MAX_SYNCOOKIE_AGE, net/ipv4/syncookies.c)."""


def cookies_sent(text: str) -> int | None:
    """Return ``TcpExt: SyncookiesSent``, ``None`` if the kernel does not count them."""
    names: list[str] = []
    for line in text.splitlines():
        prefix, _, rest = line.partition(":")
        if prefix != "TcpExt":
            continue
        words = rest.split()
        if not names:
            names = words
        elif "SyncookiesSent" in names:
            return int(words[names.index("SyncookiesSent")])
    return None


class CookieAge:
    """How long no cookie was sent, as far as this has looked.

    It begins to look with the first call. What cannot be read counts as a cookie sent just now.
    """

    def __init__(self, read: Callable[[], str] = lambda: NETSTAT.read_text("ascii")) -> None:
        self._read = read
        self._started: float | None = None
        self._sent: int | None = None
        self._rose_at: float | None = None

    def age(self, now: float) -> float | None:
        """Return seconds since the last cookie, ``None``: none in two minutes and all the time.

        Before that, the seconds since the start. ``now`` is monotonic.
        """
        if self._started is None:
            self._started = now
        try:
            sent = cookies_sent(self._read())
        except (OSError, ValueError):
            sent = None
        if sent is None or (self._sent is not None and sent != self._sent):
            self._rose_at = now
        self._sent = sent
        if self._rose_at is not None:
            return now - self._rose_at
        looked = now - self._started
        return None if looked >= LOOK_SECONDS else looked
