"""From agents' check results to what the builder is told: pure, one pool at a time.

A failing check makes a server ``draining`` in the pools whose service fails, nowhere else, and
breaks no open connection. Unknown is not failing; a failing service that its agent has not checked
again yet (it was restarted) still counts as failing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.domain.objects import CheckType, Report, Service

Failing = frozenset[tuple[str, str]]
"""(server, service) whose last known check failed."""


def fold(failing: Failing, reports: Mapping[str, Report], services: Collection[Service]) -> Failing:
    """Return the failing (server, service) pairs after these reports."""
    checked = {service.name for service in services if service.check.type is not CheckType.NONE}
    kept = {
        (server, service)
        for server, service in failing
        if service in checked and server in reports and service not in reports[server].checks
    }
    said = {
        (server, name)
        for server, report in reports.items()
        for name, health in report.checks.items()
        if name in checked and not health.healthy
    }
    return frozenset(kept | said)


@dataclass(frozen=True)
class PoolHealth:
    """``unhealthy``: servers to be drained in this pool. ``panic``: too many to believe it."""

    unhealthy: frozenset[str] = frozenset()
    panic: bool = False


def pool_health(
    pool: str,
    services: Collection[Service],
    failing: Failing,
    members: Collection[str],
    panic_threshold: float,
) -> PoolHealth:
    """Judge the pool's ``members`` (its servers that are joining or active).

    A majority going unhealthy at once is a monitoring fault or a disaster, no reason to pile
    everything onto the rest.
    """
    of_pool = {service.name for service in services if service.pool == pool}
    unhealthy = {server for server, service in failing if service in of_pool} & set(members)
    return PoolHealth(frozenset(unhealthy), len(unhealthy) > panic_threshold * len(members))
