"""Later hops leave chains when their connections have ended, and not before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lb.demo.site.site import Site
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns import sites
from tests.netns.sites import bucket, chains, cohort, finished, grown, index_of

DRAINED = 3
LEAVE_SECONDS = 30.0
"""2 s and 5 s for what is on its way, two dumps, a table that waits 5 s, and a busy machine."""


def behind(site: Site, number: int) -> NDArray[np.intp]:
    """The buckets where a server is a later hop."""
    later = chains(site)[:, 1:] == index_of(site, number)
    return np.flatnonzero(later.any(axis=1))


def test_a_drained_server_leaves_the_buckets_without_its_connections(site: Site) -> None:
    held = cohort(site, idle=40, udp=20)
    mine = [flow for flow, server in held.names().items() if server == server_name(DRAINED)]
    assert {flow.partition(" ")[0] for flow in mine} == {"tcp", "udp"}
    wanted = sorted({bucket(site, flow) for flow in mine})
    sites.drained(site, DRAINED)
    assert len(behind(site, DRAINED)) > len(wanted)
    wait_until(
        lambda: behind(site, DRAINED).tolist() == wanted,
        "only the buckets with its connections are left",
        LEAVE_SECONDS,
    )
    assert finished(held).broken == ()
    wait_until(lambda: not behind(site, DRAINED).size, "it has left all chains", LEAVE_SECONDS)
    before = site.counters.read()
    new = cohort(site, idle=40)
    assert server_name(DRAINED) not in new.names().values()
    assert finished(new).broken == ()
    there = grown(site, before)[server_name(DRAINED)]
    assert (there["accept_socket"], there["pass_on"]) == (0, 0)
