"""`lbctl plan` at a real site: the connections that it foresees as passed on or lost are those."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from controlplane.documents.presence import decode_presence
from controlplane.store.file.store import FileStore
from lb.demo import scenario
from lb.demo.site.site import Site
from lb.demo.traffic.cohort import Cohort
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.sites import POOLS, TIMEOUT_SECONDS, chains, cohort, finished

DRAINED = server_name(3)
DUMP_SECONDS = 15.0
"""Agents dump their sockets every second or so, on a busy machine less often."""


def planned(site: Site, kind: str) -> dict[str, Any]:
    """The plan of a change of one server."""
    found: dict[str, Any] = json.loads(site.run_lbctl("plan", kind, DRAINED, "--json"))
    return found


def pools_of(found: dict[str, Any]) -> dict[str, Any]:
    """The pools of a plan's first step, by name."""
    return {pool["pool"]: pool for pool in found["plan"]["stages"][0]["pools"]}


def dumped(site: Site) -> bool:
    """Whether all servers have dumped their sockets by the newest cluster document.

    Until then a new table makes the last dumps unusable.
    """
    cluster = site.store.cluster()
    store = FileStore(site.network.store_dir)
    dumps = [decode_presence(seen.body) for seen in store.dumps().values()]
    store.close()
    everybody = len(dumps) == len(scenario.FIRST_SERVERS)
    oldest = min((dump.cluster_generation for dump in dumps), default=0)
    return cluster is not None and everybody and oldest >= cluster.generation


def history(site: Site) -> dict[str, Any]:
    """What happened to that server last."""
    event: dict[str, Any] = json.loads(site.run_lbctl("history", DRAINED, "--json"))[-1]
    return event


def on(flows: Cohort) -> set[str]:
    """The flows that the server has which will be drained."""
    return {flow for flow, server in flows.names().items() if server == DRAINED}


def test_a_drain_passes_on_and_loses_what_its_plan_shows(site: Site) -> None:
    """Pool `web` loses nothing; pool `plain`, without daisy chaining, what the server has."""
    kept = cohort(site, idle=60, udp=20)
    broken = cohort(site, idle=60, pool=scenario.PLAIN)
    assert on(kept)
    assert on(broken)

    def foreseen() -> bool:
        if not dumped(site):
            return False
        found = pools_of(planned(site, "drain"))
        lost = sum(one["connections"] or 0 for one in found[scenario.PLAIN]["lost"])
        chained = found[scenario.WEB]["chained"]
        return (chained, lost) == (len(on(kept)), len(on(broken)))

    wait_until(foreseen, "the servers' dumps have all of these connections", DUMP_SECONDS)
    plan = planned(site, "drain")
    assert plan["plan"]["knowledge"]["assumed"] == []
    assert plan["plan"]["knowledge"]["presence_seconds"] < 2 * DUMP_SECONDS
    gone = pools_of(planned(site, "down"))
    assert sum(one["connections"] for one in gone[scenario.WEB]["lost"]) == len(on(kept))
    before = {pool: chains(site, pool)[:, 0] for pool in POOLS}
    site.run_lbctl("drain", DRAINED)
    others = [n for n in scenario.FIRST_SERVERS if server_name(n) != DRAINED]
    site.await_equal(POOLS, others, TIMEOUT_SECONDS)
    for pool in POOLS:
        moved = int(np.count_nonzero(chains(site, pool)[:, 0] != before[pool]))
        assert pools_of(plan)[pool]["buckets"] == moved
    wait_until(lambda: history(site)["over"], "the controller has followed it to its end", 30.0)
    event = history(site)
    assert event["foreseen"]["buckets"] == event["happened"]["buckets"]
    assert event["foreseen"]["lost"] == event["happened"]["strays"] == len(on(broken))
    assert event["happened"]["lost"] is None, "in a pool of depth 1 the servers alone see it"
    assert finished(kept).broken == ()
    assert plan["lost"] == len(on(broken)) == len(finished(broken).broken)
