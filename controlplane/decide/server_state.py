"""The life of a server, as a pure function: from what is known of it to its next state.

::

    registered --settled, alive--> joining --full share--> active
        ^                            |  ^                    |
        | alive again                |  +--no longer wished--+-- draining <--wished, removed
        +------------- down <--------+--- machine gone, or stopped ---+

A death is seen at once; every other step waits until the cluster generation before it is settled.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.objects import ServerState


@dataclass(frozen=True)
class ServerView:
    """What the controller knows of one server now.

    ``known`` is whether anything was ever heard of it by anyone (a report or an acknowledgement in
    the store); ``heard`` whether this controller heard it, within ``silent_after_seconds``;
    ``silent`` that it did not, for that long, by its own clock (a fresh controller knows neither).
    ``probes_failed`` counts probes in a row since it fell silent; an answer sets it to 0.
    ``refused_cluster`` is the generation of the newest cluster document if its last report says
    that it refused it, else 0.
    """

    name: str
    known: bool = False
    heard: bool = False
    silent: bool = False
    silent_seconds: float = 0.0
    stopped: bool = False
    probes_failed: int = 0
    drain_requested: bool = False
    configured: bool = True
    refused_cluster: int = 0

    @property
    def alive(self) -> bool:
        """Whether its agent speaks now and its forwarder runs."""
        return self.heard and not self.stopped

    def dead(self, probe_count: int) -> bool:
        """Whether its machine is gone, or it said that its forwarder is.

        Silence alone never is a death: forwarding outlives the agent (DESIGN, section 3).
        """
        if self.stopped and (self.heard or self.silent):
            return True
        return self.known and self.silent and self.probes_failed >= probe_count


def next_state(
    state: ServerState, view: ServerView, *, may_join: bool, full_share: bool
) -> ServerState:
    """Return the state that follows, for a living server in a settled cluster generation.

    ``may_join``: newcomers are let in now (at the very start they are let in together).
    ``full_share``: a joining server's slow start is over. Deaths are not decided here
    (``controlplane.decide.deaths``), coming back is.
    """
    wanted = view.configured and not view.drain_requested
    if state is ServerState.DOWN:
        return ServerState.REGISTERED if view.alive and view.configured else state
    if state is ServerState.REGISTERED:
        return ServerState.JOINING if wanted and view.alive and may_join else state
    if not wanted:
        return ServerState.DRAINING
    if state is ServerState.DRAINING:
        return ServerState.JOINING
    if state is ServerState.JOINING and full_share:
        return ServerState.ACTIVE
    return state
