"""Which generations are settled, and which servers hold the others back. Pure.

docs/architecture.md defines the terms.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import Server, ServerState


@dataclass(frozen=True)
class Settlement:
    """How far one published generation has got.

    ``waiting_for``: servers that count and have not acknowledged it. ``silent``: those of them
    that have been silent for longer than joins and drains wait. ``refusing``: those of them whose
    report refuses it; they keep the generation before. Moves made for load need ``settled``, which
    is strict; joins, drains and settings need ``passable``.
    """

    kind: str
    generation: int
    waiting_for: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    refusing: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Every server that counts has it."""
        return not self.waiting_for

    @property
    def passable(self) -> bool:
        """Every server that counts has it, except those that have been silent for long."""
        return len(self.silent) == len(self.waiting_for)

    @property
    def refused(self) -> bool:
        """No server that lacks it will take it, so it will never be settled."""
        return bool(self.refusing) and {*self.silent, *self.refusing} == {*self.waiting_for}


def counts(server: Server, view: ServerView) -> bool:
    """Whether a server's acknowledgement is needed.

    It is not if the server is down, has reported that it stopped or that it leaves and has
    withdrawn its routes, or is ``registered`` and has never reported. A server past ``registered``
    forwards, even if this store has no report of it: the store may have been seeded.
    """
    if server.state is ServerState.DOWN or view.stopped or view.withdrawn:
        return False
    return view.known or server.state is not ServerState.REGISTERED
