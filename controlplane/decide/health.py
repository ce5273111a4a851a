"""From agents' check results to the servers that a pool drains. Pure.

A failing check makes a server ``draining`` in the pool of the service that fails, in no other pool,
and breaks no open connection. Unknown is not failing. A failing service that its agent has not
checked again after a restart still counts as failing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.domain.objects import CheckType, Report, Service

CALM_SECONDS = 30.0
"""How long few enough checks must fail before a panic ends: ending it drains those that fail."""

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
    reported = {
        (server, name)
        for server, report in reports.items()
        for name, health in report.checks.items()
        if name in checked and not health.healthy
    }
    return frozenset(kept | reported)


@dataclass(frozen=True)
class PoolHealth:
    """``unhealthy``: servers whose checks fail. ``panic``: too many, so checks are ignored."""

    unhealthy: frozenset[str] = frozenset()
    panic: bool = False


def pool_health(
    pool: str,
    services: Collection[Service],
    failing: Failing,
    members: Collection[str],
    panic_threshold: float,
    unfit: Collection[str] = (),
) -> PoolHealth:
    """Judge the pool's ``members`` (its servers that are joining or active).

    A majority that is unhealthy at once means a monitoring fault or a disaster. Moving all traffic
    to the rest would help in neither case. ``unfit``: servers that are unhealthy in every pool.
    """
    of_pool = {service.name for service in services if service.pool == pool}
    failed = {server for server, service in failing if service in of_pool}
    unhealthy = (failed | set(unfit)) & set(members)
    return PoolHealth(frozenset(unhealthy), len(unhealthy) > panic_threshold * len(members))


@dataclass(frozen=True)
class Panic:
    """Whether a pool's checks are ignored, over time.

    ``calm_since``: since when few enough of them fail to end it, in monotonic seconds.
    """

    on: bool = False
    calm_since: float | None = None


def next_panic(
    before: Panic, failing: int, members: int, threshold: float, now: float, calm_seconds: float
) -> Panic:
    """Return whether a pool is in panic now. ``now`` is monotonic.

    It begins at once when more than ``threshold`` of the ``members`` fail. It ends when for
    ``calm_seconds`` fewer have failed than one less than it takes to begin (for one, none): a
    service that comes and goes must not drain servers again and again.
    """
    if failing > threshold * members:
        return Panic(on=True)
    if not before.on:
        return Panic()
    begins_at = math.floor(threshold * members) + 1
    if failing >= max(1, begins_at - 1):
        return Panic(on=True)
    since = now if before.calm_since is None else before.calm_since
    return Panic() if now - since >= calm_seconds else Panic(on=True, calm_since=since)
