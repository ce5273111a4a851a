"""What the data plane and the checks of a machine are told of the documents."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest

from controlplane.documents import DocumentError
from controlplane.objects import DEFAULT_DEPTH, TCP, Cluster, Pool, Service
from lb.agent.view import check_cluster, deepest

SERVICE = Service("web", IPv4Network("192.0.2.1"), TCP, 80, "web")


def test_room_is_needed_for_the_deepest_pool() -> None:
    assert deepest((Pool("plain", depth=1),)) == 1
    assert deepest((Pool("plain", depth=1), Pool("web", depth=4), Pool("work", depth=3))) == 4


def test_before_any_pool_is_known_the_usual_depth_is_assumed() -> None:
    assert deepest(()) == DEFAULT_DEPTH


@pytest.mark.parametrize(
    ("service", "pool", "line"),
    [
        (replace(SERVICE, vip=IPv6Network("2001:db8::1")), Pool("web"), "web asks for an IPv6 VIP"),
        (replace(SERVICE, vip=IPv4Network("192.0.2.0/24")), Pool("web"), "asks for a prefix"),
        (replace(SERVICE, port=None), Pool("web"), "asks for any port"),
        (SERVICE, Pool("web", hash_mode="client"), "pool web asks for a hash of clients"),
    ],
)
def test_what_is_not_forwarded_yet_is_refused_whole(
    service: Service, pool: Pool, line: str
) -> None:
    check_cluster(Cluster(1, services=(SERVICE,), pools=(Pool("web"),)), None)
    with pytest.raises(DocumentError, match=line) as caught:
        check_cluster(Cluster(1, services=(service,), pools=(pool,)), None)
    assert caught.value.reason == "data_plane"
