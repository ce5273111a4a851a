"""Signs of a server that its controller acts on, and after how long. Pure.

docs/signs.md is the whole table: sign, meaning, and time until it acts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controlplane.decide.health import Failing
from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import IN_USE, Cluster, Server, ServerState

DETACHED_SECONDS = 1.0
"""An agent reports detached programs for so long before its server counts as stopped: the agent
attaches them again if it can."""
NOT_READY_SECONDS = 5.0
"""A server in use reports that it is not ready for so long before no new connections go to it: an
agent that was restarted needs some seconds."""


def not_ready(cluster: Cluster, views: Mapping[str, ServerView]) -> frozenset[str]:
    """Return the servers in use to which no new connections go because they are not ready."""
    return frozenset(
        s.name for s in cluster.servers if s.state in IN_USE and views[s.name].not_ready
    )


def joins_when_ready(
    servers: Collection[Server], views: Mapping[str, ServerView]
) -> frozenset[str]:
    """Return the joining servers that are not ready yet: they get no buckets until they are."""
    return frozenset(
        s.name
        for s in servers
        if s.state is ServerState.JOINING and views[s.name].heard and not views[s.name].ready
    )


def refusing(cluster: Cluster, views: Mapping[str, ServerView]) -> dict[str, tuple[str, ...]]:
    """Return the silent servers that answer probes of services with resets, and which services."""
    return {
        s.name: tuple(sorted(views[s.name].refused_services))
        for s in cluster.servers
        if s.state is not ServerState.DOWN
        and views[s.name].may_be_dead
        and views[s.name].refused_services
    }


def refused_by_probes(views: Mapping[str, ServerView]) -> Failing:
    """Return the (server, service) pairs where a silent server's VIP answers with resets."""
    return frozenset(
        (name, service)
        for name, view in views.items()
        if view.silent
        for service in view.refused_services
    )
