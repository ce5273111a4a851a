"""The whole load balancer, once for all tests of a module that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lb.demo import plan
from lb.demo.site import Site
from netns.brigade import brigade
from netns.network import Network
from tests.netns import sites


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """A client, a router, a controller, and four servers that share equally."""
    with Network(brigade(servers=len(plan.FIRST_SERVERS) + 1)) as network:
        made = Site(network)
        try:
            sites.start(made)
            yield made
        finally:
            made.fleet.close()


@pytest.fixture
def site(running_site: Site) -> Site:
    """The same, with everybody active and the router using all servers."""
    sites.rest(running_site)
    return running_site
