"""The next ``cluster`` document, from settings, the newest document and server views. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from controlplane.decide.server_state import ServerView, next_state
from controlplane.decide.settlement import Settlement
from controlplane.domain.bounds import DEFAULT_DEPTH, MAX_SERVERS
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import IN_USE, SERVING, Cluster, Pool, Server, ServerState
from controlplane.settings.models import ControlConfig, PoolConfig


@dataclass(frozen=True)
class ClusterNews:
    """What is known apart from settings and views.

    ``dead``: to be declared down, or cut off for long enough to leave the tables. ``full_share``:
    joining servers whose slow start is over. ``newcomers_welcome``: see ``newcomers_welcome()``.
    ``named``: indices in any chain of the newest tables. ``tables_settled``: every table is
    strictly settled. ``settled``: the newest settled document known; see ``known_pools()``.
    ``held``: servers in use whose requested drain would violate a guard, so it waits
    (``controlplane.decide.guards``).
    """

    dead: frozenset[str] = frozenset()
    full_share: frozenset[str] = frozenset()
    newcomers_welcome: bool = True
    named: frozenset[int] = frozenset()
    tables_settled: bool = False
    settled: Cluster | None = None
    held: frozenset[str] = frozenset()


def newcomers_welcome(
    cluster: Cluster | None,
    views: Mapping[str, ServerView],
    since_first_heard_seconds: float,
    patience_seconds: float,
) -> bool:
    """Whether registered servers may join now.

    At the very start, when no server is in use, the first ones wait until all configured servers
    report, at most ``patience_seconds``, so that the first tables are not for one server alone.
    Later each server in use has to be heard, or silent for long enough.
    """
    in_use = [s.name for s in cluster.servers if s.state in IN_USE] if cluster else []
    if cluster is None or in_use:
        # A controller that has just begun first hears which paths are lost.
        return all(views[name].heard or views[name].silent for name in in_use)
    expected = [v for v in views.values() if v.configured and not v.drain_requested]
    return all(v.alive for v in expected) or since_first_heard_seconds >= patience_seconds


def next_cluster(
    config: ControlConfig,
    current: Cluster | None,
    views: Mapping[str, ServerView],
    settlement: Settlement | None,
    news: ClusterNews,
    key_ids: Mapping[str, str],
) -> Cluster | None:
    """Return the document to publish now, ``None`` if the newest one stays.

    Until the newest is settled (or waits only for long silent servers), only a death is published,
    and that a server is cut off.
    A refused document never settles: other settings may replace it, and every other step keeps
    waiting for a settled one. ``key_ids`` names the key of each new pool.
    """
    if current is None:
        first = _with_settings(Cluster(generation=1), config, news, key_ids)
        return _with_newcomers(first, config, news)
    servers = _without_cut_off(_with_dead(current.servers, news.dead), views)
    proposed = replace(current, servers=servers)
    if settlement is None or settlement.passable:
        servers = _living(proposed.servers, views, settlement, news)
        proposed = _with_settings(replace(proposed, servers=servers), config, news, key_ids)
        proposed = _with_newcomers(proposed, config, news)
    elif settlement.refused:
        proposed = _with_settings(proposed, config, news, key_ids)
    if proposed == current:
        return None
    return replace(proposed, generation=current.generation + 1)


def _with_dead(servers: Collection[Server], dead: Collection[str]) -> tuple[Server, ...]:
    return tuple(replace(s, state=ServerState.DOWN) if s.name in dead else s for s in servers)


def _without_cut_off(
    servers: Collection[Server], views: Mapping[str, ServerView]
) -> tuple[Server, ...]:
    """Return the servers; those that are cut off have to withdraw their routes."""
    return tuple(
        replace(s, state=ServerState.REGISTERED)
        if s.state in IN_USE and views[s.name].cut_off
        else s
        for s in servers
    )


def _living(
    servers: Collection[Server],
    views: Mapping[str, ServerView],
    settlement: Settlement | None,
    news: ClusterNews,
) -> tuple[Server, ...]:
    strictly = settlement is not None and settlement.settled and news.tables_settled
    kept = []
    for server in servers:
        view = views[server.name]
        if strictly and _has_left(server, view, news):
            continue
        if server.name in news.dead:
            kept.append(server)
            continue
        held = server.name in news.held and server.state in SERVING
        state = next_state(
            server.state,
            replace(view, drain_requested=False) if held else view,
            may_join=news.newcomers_welcome,
            full_share=server.name in news.full_share,
            unused=strictly and server.index not in news.named,
        )
        kept.append(replace(server, state=state))
    return tuple(kept)


def _has_left(server: Server, view: ServerView, news: ClusterNews) -> bool:
    """Whether no server needs this DIP any longer: its forwarder sends nothing."""
    if view.configured or server.index in news.named:
        return False
    never_ran = server.state is ServerState.REGISTERED and not view.known
    still_forwards = view.alive or view.leaving
    return never_ran or (server.state is ServerState.DOWN and not still_forwards)


def _with_newcomers(cluster: Cluster, config: ControlConfig, news: ClusterNews) -> Cluster:
    """Add servers that are new in the settings."""
    used = {server.index for server in cluster.servers} | news.named
    known = {server.name for server in cluster.servers}
    newcomers = []
    for server in config.server:
        if server.name not in known:
            index = free_index(used)
            used.add(index)
            newcomers.append(Server(server.name, server.dip, index))
    return replace(cluster, servers=(*cluster.servers, *newcomers))


def _with_settings(
    cluster: Cluster, config: ControlConfig, news: ClusterNews, key_ids: Mapping[str, str]
) -> Cluster:
    """Replace services, pools and probers by those of the settings."""
    known = known_pools(cluster, news.settled)
    return replace(
        cluster,
        services=config.domain_services,
        pools=tuple(known.get(pool.name) or _new_pool(pool, key_ids) for pool in config.pool),
        probers=frozenset(config.probers),
        gue_port=config.gue_port,
    )


def known_pools(current: Cluster | None, settled: Cluster | None) -> dict[str, Pool]:
    """Return by name the pools that keep bucket count, depth, hash mode and key.

    A pool that a refused document removed is still in use. If the settings have it again before
    another document is settled, it comes back as it was.
    """
    clusters = [cluster for cluster in (settled, current) if cluster]
    return {pool.name: pool for cluster in clusters for pool in cluster.pools}


def _new_pool(pool: PoolConfig, key_ids: Mapping[str, str]) -> Pool:
    depth = DEFAULT_DEPTH if pool.depth is None else pool.depth
    return Pool(pool.name, pool.buckets, depth, pool.hash_mode, key_ids[pool.name])


def free_index(used: Collection[int]) -> int:
    """Return a DIP index that no server and no table has, preferably one never used.

    Raises ``BrigadeError``: all of them are taken.
    """
    following = max(used, default=0) + 1
    if following <= MAX_SERVERS:
        return following
    free = next((index for index in range(1, MAX_SERVERS + 1) if index not in used), None)
    if free is None:
        raise BrigadeError(f"all {MAX_SERVERS} server indices are in use; let servers leave first")
    return free
