"""The whole load balancer: once for a module, or with tables made by hand once for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import brigade
from netns.network import Network
from tests.netns import sites
from tests.netns.stage import SERVERS, VIPS, Stage


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """A client, a router, a controller, and four servers that share equally."""
    with Network(brigade(servers=len(scenario.FIRST_SERVERS) + 1)) as network:
        made = Site(network)
        try:
            sites.start(made)
            yield made
        finally:
            made.store.close()


@pytest.fixture
def site(running_site: Site) -> Site:
    """The same, with everybody active and the router using all servers."""
    sites.rest(running_site)
    return running_site


@pytest.fixture(scope="session")
def running_stage() -> Iterator[Stage]:
    """Three servers with IPv4 and IPv6, chains of three, and links with room for the wrap."""
    with Network(brigade(servers=len(SERVERS), vips=VIPS, dual_stack=True)) as network:
        made = Stage(network, depth=3)
        made.start()
        yield made


@pytest.fixture
def stage(running_stage: Stage) -> Stage:
    """The same, everything entering by server 1 and belonging to it."""
    running_stage.rest()
    return running_stage
