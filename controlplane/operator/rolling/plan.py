"""Which servers a rolling run works on, in which order, and how many at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.decide.guards import Capacity
from controlplane.decide.views import FleetView
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.domain.names import guess
from controlplane.domain.objects import SERVING, Cluster
from controlplane.operator.drain import known_server
from controlplane.operator.requests import request_text
from controlplane.settings.models import ControlConfig


@dataclass(frozen=True)
class Selection:
    """``servers``: names and DIPs, in order. ``left_out``: server -> why, those not in use now."""

    servers: tuple[tuple[str, str], ...]
    left_out: Mapping[str, str]


def select(
    config: ControlConfig,
    cluster: Cluster,
    fleet: FleetView,
    pool: str | None,
    names: Sequence[str] | None,
) -> Selection:
    """Return the servers of a run: those that are named, or all of the pool, or all.

    Raises:
        UsageError: a server or the pool does not exist, or no server is left.
        BrigadeError: exit code 3, a server that was named cannot be drained now.

    """
    pools = {one.name for one in config.pool}
    if pool is not None and pool not in pools:
        raise UsageError(
            f"no pool is called {pool!r}; {guess(pool, pools)}there are: {', '.join(sorted(pools))}"
        )
    wanted = _named(config, cluster, pool, names)
    servers, left_out = [], {}
    for name in wanted:
        server, why = cluster.server(name), _unfit(cluster, fleet, name)
        if server is None or why:
            left_out[name] = why or "is not in the cluster yet"
        else:
            servers.append((name, str(server.dip)))
    if names is not None and left_out:
        name, why = next(iter(left_out.items()))
        raise BrigadeError(f"{name} {why}: leave it out of --servers", ExitCode.REFUSED)
    if not servers:
        raise UsageError("there is no server to work on: lbctl servers shows all")
    return Selection(tuple(servers), left_out)


def _named(
    config: ControlConfig, cluster: Cluster, pool: str | None, names: Sequence[str] | None
) -> list[str]:
    if names is None:
        return [s.name for s in config.server if pool is None or s.serves(pool)]
    if not names:
        raise UsageError("--servers has no name: give names with commas, or leave it out for all")
    for name in names:
        known_server(config, cluster, name)
        configured = config.server_named(name)
        if pool is not None and (configured is None or not configured.serves(pool)):
            raise UsageError(f"{name} does not serve pool {pool}")
    return list(dict.fromkeys(names))


def _unfit(cluster: Cluster, fleet: FleetView, name: str) -> str:
    """Return why a server cannot be drained now, in words that follow its name."""
    server, request = cluster.server(name), fleet.drain_requests.get(name)
    if server is None:
        return ""
    if request is not None:
        return f"is drained already, requested{request_text(request)}"
    if server.state not in SERVING:
        return f"is {server.state.value}"
    return "has a silent agent" if fleet.servers[name].silent else ""


def check_at_once(
    at_once: int,
    servers: Sequence[str],
    capacities: Mapping[str, Capacity],
    config: ControlConfig,
) -> None:
    """Check that the pools can spare so many of these servers at the same time.

    Raises:
        BrigadeError: exit code 3, a pool cannot.

    """
    for pool, capacity in sorted(capacities.items()):
        own = [
            name for name in servers if (found := config.server_named(name)) and found.serves(pool)
        ]
        together = min(at_once, len([name for name in own if name in capacity.active]))
        spare = max(0, len(capacity.active) - capacity.needed)
        if together > spare:
            raise BrigadeError(
                f"pool {pool} has {len(capacity.active)} of {capacity.members} servers active and "
                f"needs {capacity.needed} (min_active {capacity.min_active:g}), so "
                + (
                    f"at most {spare} can be drained at once: --at-once {spare}"
                    if spare
                    else "none can be drained: bring servers back, or lower min_active"
                ),
                ExitCode.REFUSED,
            )
