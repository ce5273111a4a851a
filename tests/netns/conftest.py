"""The whole load balancer, once for all tests of a module that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lb.demo import plan
from lb.demo.site import Site
from netns.brigade import brigade
from netns.network import Network

START_SECONDS = 30.0
POOLS = (plan.WEB, plan.PLAIN)


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """A client, a router, a controller, and four servers that share equally."""
    with Network(brigade(servers=len(plan.FIRST_SERVERS) + 1)) as network:
        made = Site(network)
        try:
            made.start_router()
            for number in plan.FIRST_SERVERS:
                made.start_services(number)
                made.start_agent(number)
            made.start_controller()
            made.await_ready(plan.FIRST_SERVERS)
            yield made
        finally:
            made.fleet.close()


@pytest.fixture
def site(running_site: Site) -> Site:
    """The same, with everybody active and the router using all servers."""
    assert running_site.ended() == []
    for server in running_site.fleet.drained():
        running_site.operate("undrain", server)
    running_site.exclude([])
    running_site.await_equal(POOLS, plan.FIRST_SERVERS, START_SECONDS)
    running_site.await_active(plan.FIRST_SERVERS)
    return running_site
