"""Who is to be declared down now, unless so many are at once that it must be a mistake. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import IN_USE, Cluster, ServerState

AT_ONCE_SECONDS = 10.0
"""Deaths within this time of each other are one event for the panic threshold."""


@dataclass(frozen=True)
class Deaths:
    """``dead``: to be published as down. ``withheld``: they look dead, but so do too many."""

    dead: frozenset[str] = frozenset()
    withheld: frozenset[str] = frozenset()


def find_deaths(
    cluster: Cluster,
    views: Mapping[str, ServerView],
    *,
    probe_count: int,
    panic_threshold: float,
    recently_down: Collection[str],
) -> Deaths:
    """Find the servers whose machine is gone.

    When more than ``panic_threshold`` of the servers in use fall silent with failing probes at
    once, the controller's own network is the likelier culprit: nobody is declared down. One failed
    probe makes a silent server suspect enough to be counted, so that the first of many is not
    declared before the others' last probe. What an agent itself said (``stopped``) is believed.
    ``recently_down`` are those that were declared down within ``AT_ONCE_SECONDS``.
    """
    dead = {
        server.name
        for server in cluster.servers
        if server.state is not ServerState.DOWN and views[server.name].dead(probe_count)
    }
    in_use = {server.name for server in cluster.servers if server.state in IN_USE}
    said = {name for name in dead if views[name].stopped}
    suspects = {
        name for name in in_use - said if views[name].silent and views[name].probes_failed > 0
    }
    gone = suspects | set(recently_down)
    members = in_use | set(recently_down)
    withheld: set[str] = set()
    if members and len(gone) > panic_threshold * len(members):
        withheld = (dead & in_use) - said
    return Deaths(frozenset(dead - withheld), frozenset(withheld))
