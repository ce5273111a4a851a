"""What the data plane and the checks of a machine get from the documents."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from controlplane.domain.bounds import DEFAULT_DEPTH
from controlplane.domain.objects import TCP, Cluster, Pool, Service
from lb.agent.documents.cluster_view import cluster_view, deepest
from lb.dataplane.objects import ServiceEntry

SERVICE = Service("web", IPv4Network("192.0.2.1"), TCP, 80, "web")


def test_the_overhead_is_that_of_the_deepest_pool() -> None:
    assert deepest((Pool("plain", depth=1),)) == 1
    assert deepest((Pool("plain", depth=1), Pool("web", depth=4), Pool("work", depth=3))) == 4


def test_before_any_pool_is_known_the_usual_depth_is_assumed() -> None:
    assert deepest(()) == DEFAULT_DEPTH


def test_every_form_of_vip_and_both_hash_modes_reach_the_data_plane() -> None:
    services = (
        SERVICE,
        replace(SERVICE, vip=IPv6Network("2001:db8::1"), port=None),
        replace(SERVICE, vip=IPv4Network("192.0.2.0/24"), pool="sticky"),
    )
    pools = (Pool("web"), Pool("sticky", hash_mode="client"))
    view = cluster_view(Cluster(1, services=services, pools=pools), {})
    assert view.services == (
        ServiceEntry(IPv4Network("192.0.2.1"), TCP, 80, "web"),
        ServiceEntry(IPv6Network("2001:db8::1"), TCP, None, "web"),
        ServiceEntry(IPv4Network("192.0.2.0/24"), TCP, 80, "sticky", by_client=True),
    )
