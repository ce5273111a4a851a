"""Which generations are settled, and who holds the others back (docs/architecture.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import CLUSTER, Cluster, Server, ServerState

Acknowledged = Mapping[str, Mapping[str, int]]
"""Server name -> kind -> generation."""


@dataclass(frozen=True)
class Settlement:
    """How far one published generation has got.

    ``waiting_for``: those who count and have not acknowledged it. ``silent``: those of them who
    have been silent for longer than joins and drains wait. ``settled`` is the strict word, needed
    for moves made for load; ``passable`` is what joins, drains and settings need. ``refusing`` are
    those of them who said that they refuse it: they stay with the one before.
    """

    kind: str
    generation: int
    waiting_for: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    refusing: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Everyone who counts has it."""
        return not self.waiting_for

    @property
    def passable(self) -> bool:
        """Everyone who counts and speaks, or has not been silent for long, has it."""
        return len(self.silent) == len(self.waiting_for)

    @property
    def refused(self) -> bool:
        """Nobody will take it who has not: waiting for it is waiting for ever."""
        return bool(self.refusing) and {*self.silent, *self.refusing} == {*self.waiting_for}


def counts(server: Server, view: ServerView) -> bool:
    """Whether a server's acknowledgement is needed.

    Not if it is down, has said that it stopped, or was never heard of while ``registered``. A
    server beyond ``registered`` forwards, heard of in this store or not (it may be a seeded one).
    """
    if server.state is ServerState.DOWN or view.stopped:
        return False
    return view.known or server.state is not ServerState.REGISTERED


def settlement(
    kind: str,
    generation: int,
    cluster: Cluster,
    views: Mapping[str, ServerView],
    acknowledged: Acknowledged,
    silent_wait_seconds: float,
) -> Settlement:
    """Say who holds back a generation of a kind among the servers of the newest ``cluster``."""
    waiting = [
        server.name
        for server in cluster.servers
        if counts(server, views[server.name])
        and acknowledged.get(server.name, {}).get(kind, 0) < generation
    ]
    silent = [
        name
        for name in waiting
        if views[name].silent and views[name].silent_seconds >= silent_wait_seconds
    ]
    refusing = [
        name for name in waiting if kind == CLUSTER and views[name].refused_cluster == generation
    ]
    return Settlement(kind, generation, tuple(waiting), tuple(silent), tuple(refusing))


def silent_ones(cluster: Cluster, views: Mapping[str, ServerView]) -> frozenset[str]:
    """Return the servers that count and are silent."""
    return frozenset(
        server.name
        for server in cluster.servers
        if counts(server, views[server.name]) and views[server.name].silent
    )
