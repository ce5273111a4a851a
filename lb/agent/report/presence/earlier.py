"""Which sockets were there some time ago: what the last dumps found."""

from __future__ import annotations

from collections import deque

from lb.flow_hashes import Words

MOST_DUMPS = 16
LEAST_SECONDS = 1.0
"""Between two dumps that are kept: quick ones would leave too short a time."""


class EarlierSockets:
    """The kernel's numbers (cookies) of the open sockets of some dumps. Times are monotonic."""

    def __init__(self) -> None:
        self._dumps: deque[tuple[float, Words]] = deque(maxlen=MOST_DUMPS)

    def add(self, begun: float, cookies: Words) -> None:
        """Keep what a dump found."""
        if not self._dumps or begun >= self._dumps[-1][0] + LEAST_SECONDS:
            self._dumps.append((begun, cookies))

    def had(self, cookie: int, before: float) -> bool:
        """Whether a dump that began no later than this found the socket."""
        old = (found for begun, found in self._dumps if begun <= before)
        return any(bool((found == cookie).any()) for found in old)
