"""Which servers are declared down now, unless too many look dead at once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import IN_USE, Cluster, ServerState

AT_ONCE_SECONDS = 10.0
"""Deaths within this time of each other are one event for the panic threshold."""


@dataclass(frozen=True)
class Deaths:
    """``dead``: to be published as down. ``withheld``: look dead, but too many do at once."""

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

    When more than ``panic_threshold`` of the servers in use become silent with failing probes at
    once, the controller's own network is the more likely cause, and no server is declared down. One
    failed probe is enough to count a silent server, so that the first of many is not declared down
    before the last probe of the others. An agent's own report (``stopped``) is believed.
    ``recently_down``: servers that were declared down within ``AT_ONCE_SECONDS``.
    """
    dead = {
        server.name
        for server in cluster.servers
        if server.state is not ServerState.DOWN and views[server.name].dead(probe_count)
    }
    in_use = {server.name for server in cluster.servers if server.state in IN_USE}
    stopped = {name for name in dead if views[name].stopped}
    suspects = {
        name for name in in_use - stopped if views[name].silent and views[name].probes_failed > 0
    }
    gone = suspects | set(recently_down)
    members = in_use | set(recently_down)
    withheld: set[str] = set()
    if members and len(gone) > panic_threshold * len(members):
        withheld = (dead & in_use) - stopped
    return Deaths(frozenset(dead - withheld), frozenset(withheld))
