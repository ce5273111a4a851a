"""Encapsulated packets to one server are lost: it is found, named, taken out, and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from controlplane.domain.objects import ServerState
from lb.demo import scenario
from lb.demo.site.site import Site, lbctl
from netns.brigade import ROUTER, dip, server_name
from netns.polling import wait_until
from tests.netns.sites import POOLS, cohort, finished

CUT_OFF = 3
OTHERS = tuple(n for n in scenario.FIRST_SERVERS if n != CUT_OFF)
NAME = server_name(CUT_OFF)
NAMED_SECONDS = 3.0
SLACK_SECONDS = 3.0
"""For a busy machine, on top of what is promised."""


@contextmanager
def blocked(site: Site, number: int) -> Iterator[None]:
    """Drop what is encapsulated for a server, and nothing else, on its way."""
    rule = ["to", str(dip(number)), "ipproto", "udp", "dport", "6080", "blackhole"]
    router = site.network[ROUTER]
    router.run(["ip", "rule", "add", "priority", "10", *rule])
    try:
        yield
    finally:
        router.run(["ip", "rule", "del", "priority", "10", *rule])


def troubles(site: Site, number: int) -> dict[str, str]:
    path = site.server(number).run_dir / "status.json"
    found: dict[str, str] = json.loads(path.read_text())["troubles"]
    return found


def names(site: Site, number: int) -> bool:
    """Whether a server names the one that is cut off."""
    return f"to {NAME} are lost" in troubles(site, number).get("paths", "")


def routed(site: Site) -> bool:
    return str(dip(CUT_OFF)) in site.routed()


def in_tables(site: Site) -> bool:
    return any(site.store.in_any_chain(pool, NAME) for pool in POOLS)


def servers(site: Site) -> str:
    """What an operator sees."""
    path = site.control_file
    return site.controller.run([lbctl(), "servers", "--config", path]).stdout


@pytest.mark.timeout(180)
def test_a_server_that_encapsulated_packets_do_not_reach(site: Site) -> None:
    """UDP port 6080 is dropped towards it, by a filter at a switch. All else passes."""
    wait_until(lambda: not any(troubles(site, n) for n in scenario.FIRST_SERVERS), "all is well")
    flows = cohort(site, downloads=10, idle=60, udp=40)
    its = {flow for flow, server in flows.names().items() if server == NAME}
    assert its
    with blocked(site, CUT_OFF):
        for number in OTHERS:
            wait_until(partial(names, site, number), "it is named", NAMED_SECONDS + SLACK_SECONDS)
        wait_until(lambda: not routed(site), "it withdraws its routes", 2 + SLACK_SECONDS)
        assert in_tables(site), "routes first"
        wait_until(lambda: not in_tables(site), "it leaves the tables", 2 + SLACK_SECONDS)
        assert site.store.state(NAME) is ServerState.DOWN
        shown = servers(site)
        assert "down (cut off)" in shown
        assert f"packets to {NAME} are lost from server1, server2, server4" in shown
        site.await_equal(POOLS, OTHERS, 20.0)
        verdict = finished(flows)
        assert {one.flow for one in verdict.broken} <= its, "flows of other servers are unbroken"
        later = cohort(site, downloads=5, idle=30, udp=20)
        assert finished(later).broken == ()
        assert not routed(site)
    unblocked = time.monotonic()
    wait_until(partial(routed, site), "it is back", 30 + 4 * SLACK_SECONDS)
    assert time.monotonic() - unblocked > 25, "not before it was reached for a while"
    site.await_equal(POOLS, scenario.FIRST_SERVERS, 20.0)
    wait_until(lambda: not any(troubles(site, n) for n in scenario.FIRST_SERVERS), "all is well")
