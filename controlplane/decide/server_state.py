"""The states of a server: from what is known of it to its next state. Pure.

::

    registered --settled, alive--> joining --full share--> active
        ^                           |  ^                     |
        | alive again               |  +--request withdrawn--+-- draining <--requested, removed
        +------------ down <--------+--- machine gone, or stopped ---+

A server that is cut off becomes ``registered``, so that its agent withdraws its routes; its tables
stay. A moment later it is ``down``. It does not join before the others reach it again.

A server that asks to leave (`lbctl down`) is drained, leaves the tables, and is ``down`` once every
server uses tables without it: only then does it detach its programs.

A death, and a server that is cut off, are published at once; every other step waits until the
cluster generation before it is settled.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.objects import ServerState


@dataclass(frozen=True)
class ServerView:
    """What the controller knows of one server now.

    ``known``: the store has a report or an acknowledgement of it. ``heard``: this controller saw a
    new report within ``silent_after_seconds``. ``silent``: it saw none for that long, by its own
    clock (a new controller knows neither). ``probes_failed`` counts unanswered probes in a row
    since the server became silent; an answer sets it to 0; ``refused_services``: where nothing
    listens, by these probes. ``stopped``: its agent reported that it detached the programs, or
    (``detached``) that it found them detached and could not attach them again. ``ready``: as in the
    last report; ``not_ready``: it is in use and has not been ready for too long
    (``controlplane.decide.signs``). ``refused_cluster`` is the generation of the newest cluster
    document if the last report refuses it, else 0. ``cut_off``: the other servers do not reach it
    (``controlplane.decide.cut_off``), ``cut_off_reason``: why it may not join yet. ``leaving``: it
    is heard and asks to leave; ``withdrawn``: it
    does, and announces no routes any more.
    """

    name: str
    known: bool = False
    heard: bool = False
    silent: bool = False
    silent_seconds: float = 0.0
    stopped: bool = False
    detached: bool = False
    ready: bool = False
    not_ready: bool = False
    probes_failed: int = 0
    refused_services: frozenset[str] = frozenset()
    drain_requested: bool = False
    configured: bool = True
    refused_cluster: int = 0
    cut_off: bool = False
    cut_off_reason: str = ""
    leaving: bool = False
    withdrawn: bool = False

    @property
    def alive(self) -> bool:
        """Whether its agent reports now, its forwarder runs, and shall go on."""
        return self.heard and not self.stopped and not self.leaving

    @property
    def may_be_dead(self) -> bool:
        """Whether only a probe can find out if its machine runs."""
        return self.known and self.silent and not self.stopped

    def dead(self, probe_count: int) -> bool:
        """Whether its machine is gone, or its agent reported that its forwarder is.

        Silence alone is never a death: forwarding outlives the agent (docs/adr/0008).
        """
        if self.stopped and (self.heard or self.silent):
            return True
        return self.known and self.silent and self.probes_failed >= probe_count


def next_state(
    state: ServerState,
    view: ServerView,
    *,
    may_join: bool,
    full_share: bool,
    unused: bool = False,
) -> ServerState:
    """Return the state that follows, for a living server in a settled cluster generation.

    ``may_join``: newcomers may join now (at the very start they join together). ``full_share``: a
    joining server's slow start is over. ``unused``: every server uses tables that do not name it.
    Deaths are decided in ``controlplane.decide.deaths``.
    """
    if view.leaving and unused:
        return ServerState.DOWN
    wanted = view.configured and not view.drain_requested and not view.leaving
    if view.cut_off:
        return state if state is ServerState.DOWN else ServerState.REGISTERED
    if state is ServerState.DOWN:
        return ServerState.REGISTERED if view.alive and view.configured else state
    if state is ServerState.REGISTERED:
        return ServerState.JOINING if wanted and view.alive and may_join else state
    if not wanted:
        return ServerState.DRAINING
    if state is ServerState.DRAINING:
        return ServerState.JOINING if view.alive else state
    if state is ServerState.JOINING and full_share:
        return ServerState.ACTIVE
    return state
