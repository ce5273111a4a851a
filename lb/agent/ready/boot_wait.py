"""After a boot of the machine, what was saved before it does not make this server ready. Pure.

While the machine was off, the fleet may have gone on without it: other tables, other states. So a
controller's word is waited for; after a limited time the saved documents are used, and that is
reported as a trouble. A restart of the agent alone is different: its programs forwarded meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

REMEDY = "start the controller (lbctl control), or repair the way to the store"


@dataclass(frozen=True)
class Beginning:
    """How this agent's start differs from the last one.

    ``continued``: programs of the agent before are attached, or were, in this boot and network
    namespace. ``rebooted``: there was an agent, but in another boot or namespace.
    """

    continued: bool = False
    rebooted: bool = False


class BootWait:
    """Whether documents may make this server ready. Times are monotonic seconds."""

    def __init__(self, beginning: Beginning, started: float, wait_seconds: float) -> None:
        self._beginning = beginning
        self._until = started + wait_seconds
        self._wait_seconds = wait_seconds
        self._controller_answered = False

    def controller_answered(self) -> None:
        """Note that what the store has is the word of a controller that leads now."""
        self._controller_answered = True

    def decide(self, now: float, *, saved: bool) -> tuple[bool, str | None]:
        """Return whether this server may be ready, and a trouble if there is one.

        ``saved``: the documents in use are the last good ones, not the store's. A ``file:`` store
        without a controller has only what was saved, too.
        """
        old = self._beginning.rebooted or (saved and not self._beginning.continued)
        if self._controller_answered or not old:
            return True, None
        if now < self._until:
            return False, (
                "no controller has answered since this machine started, and the saved documents "
                "may be old: not ready before one does, for at most "
                f"{self._wait_seconds:g} s; {REMEDY}"
            )
        return True, (
            "READY BY SAVED DOCUMENTS, which may be old: no controller has answered since this "
            f"machine started; {REMEDY}"
        )
