"""Turns a cluster document into the data plane's view of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from controlplane.documents.fields import DocumentError
from controlplane.domain.bounds import DEFAULT_DEPTH
from controlplane.domain.objects import Cluster, Pool, Vip
from lb.dataplane.objects import ClusterView, ServiceEntry

CLIENT = "client"
"""The hash mode of a pool whose buckets depend on the client's address alone."""


def cluster_view(cluster: Cluster, kept: Mapping[int, IPv4Address]) -> ClusterView:
    """Return the view of a cluster.

    ``kept`` are DIPs that the cluster does not have any more, but a loaded table still names: their
    entries stay until that table is replaced, unless another server has their index or address.
    """
    dips = {server.index: server.dip for server in cluster.servers}
    taken = set(dips.values())
    old = {i: dip for i, dip in kept.items() if i not in dips and dip not in taken}
    by_client = {pool.name for pool in cluster.pools if pool.hash_mode == CLIENT}
    services = tuple(
        ServiceEntry(s.vip, s.protocol, s.port, s.pool, s.stateless, by_client=s.pool in by_client)
        for s in cluster.services
    )
    return ClusterView(services, {**dips, **old}, cluster.probers)


def cluster_vips(cluster: Cluster) -> frozenset[Vip]:
    """Return the addresses and prefixes that clients connect to."""
    return frozenset(service.vip for service in cluster.services)


def check_cluster(cluster: Cluster, in_use: Cluster | None) -> None:
    """Refuse a cluster document that must not replace the one in use.

    Raises:
        DocumentError: ``stale_generation``, or ``pool_changed``: a pool's bucket count, hash mode
            and key hold for its life.

    """
    if in_use is None:
        return
    if cluster.generation <= in_use.generation:
        raise DocumentError(
            "stale_generation",
            f"cluster: generation {cluster.generation}, {in_use.generation} is in use",
        )
    for pool in cluster.pools:
        old = in_use.pool(pool.name)
        if old is not None and _fixed(old) != _fixed(pool):
            raise DocumentError(
                "pool_changed",
                f"cluster: pool {pool.name} has other buckets, hash mode or key than before",
            )


def pools_in_service(cluster: Cluster) -> frozenset[str]:
    """Return the pools with services: packets of those without a table are dropped."""
    return frozenset(service.pool for service in cluster.services)


def deepest(pools: Iterable[Pool]) -> int:
    """Return the greatest chain depth of these pools; the default if there are none."""
    return max((pool.depth for pool in pools), default=DEFAULT_DEPTH)


def _fixed(pool: Pool) -> tuple[int, str, str]:
    return pool.buckets, pool.hash_mode, pool.key_id
