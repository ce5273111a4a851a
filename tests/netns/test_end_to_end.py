"""Everything at once: real servers behind a real router, tables that change, flows that stay."""

from __future__ import annotations

from collections.abc import Sequence

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.sites import (
    TIMEOUT_SECONDS,
    bucket,
    chains,
    cohort,
    drained,
    finished,
    grown,
    index_of,
    loaded,
)

DRAINED, LAGGING = 3, 2
DRAINED_LATER = 4
"""Buckets that come back to a server move in one step, so each test of two steps has its own."""


def test_tcp_and_udp_reach_the_server_that_the_table_names_over_two_hops(site: Site) -> None:
    # A server that was ready later than the others has buckets in transition at first.
    wait_until(
        lambda: not chains(site)[:, 1:].any(), "every bucket is at rest", 2 * TIMEOUT_SECONDS
    )
    before = site.counters.read()
    flows = cohort(site, downloads=20, idle=80, udp=40)
    current = chains(site)[:, 0]
    names = {index_of(site, number): server_name(number) for number in scenario.FIRST_SERVERS}
    for flow, server in flows.names().items():
        assert names[int(current[bucket(site, flow)])] == server, flow
    assert finished(flows).broken == ()
    sums = grown(site, before)
    for server in site.alive():
        # First hop: packets that this server handed on. Second: those it took out of the wrap.
        assert sums[server]["tx_forward"] > 0
        assert sums[server]["accept_last_hop"] > 0
        assert sums[server]["pass_local"] > 0
    assert sum(s["accept_last_hop"] for s in sums.values()) == sum(
        s["tx_forward"] for s in sums.values()
    )


def test_downloads_survive_their_buckets_move(site: Site) -> None:
    flows = cohort(site, downloads=40, udp=20)
    moved = [flow for flow, server in flows.names().items() if server == server_name(DRAINED)]
    assert any(flow.startswith("tcp") for flow in moved)
    assert any(flow.startswith("udp") for flow in moved)
    before = site.counters.read()
    drained(site, DRAINED)
    index = index_of(site, DRAINED)
    for flow in moved:
        chain = chains(site)[bucket(site, flow)]
        assert chain[0] != index
        assert chain[1] == index
    assert finished(flows).broken == ()
    sums = grown(site, before)
    assert sum(s["pass_on"] for s in sums.values()) > 0
    assert sums[server_name(DRAINED)]["accept_last_hop"] > 0
    # UDP visits the old server first, and finds its connected socket there.
    assert sums[server_name(DRAINED)]["accept_udp_socket"] > 0


def test_new_connections_do_not_go_where_a_bucket_has_left(site: Site) -> None:
    drained(site, DRAINED)
    flows = cohort(site, idle=60, udp=40)
    assert server_name(DRAINED) not in flows.names().values()
    assert finished(flows).broken == ()


def test_a_server_that_is_a_generation_behind_delivers_what_others_opened(site: Site) -> None:
    """Freeze one agent between the two steps of a move, and let the router change its mind."""
    laggard = [server_name(LAGGING)]
    site.exclude([LAGGING])
    site.suspend_agent(LAGGING)
    try:
        generation = site.store.generation(scenario.WEB)
        site.run_lbctl("drain", server_name(DRAINED_LATER), "--force")
        site.await_behind(LAGGING, scenario.WEB)
        # The first step puts newcomers behind; the laggard loads that and no more.
        site.catch_up(LAGGING, scenario.WEB)
        site.await_behind(LAGGING, scenario.WEB)
        others = [server_name(n) for n in scenario.FIRST_SERVERS if n != LAGGING]
        wait_until(
            lambda: site.store.is_settled(scenario.WEB, others),
            "the others have the second step",
            TIMEOUT_SECONDS,
        )
        assert site.store.generation(scenario.WEB) == generation + 2
        flows = cohort(site, downloads=40, idle=60, udp=40)
        affected = _affected(site, list(flows.names()))
        # They were opened at the new owner, of which the laggard knows only as a later hop.
        assert any(flow.startswith("tcp") for flow in affected)
        assert any(flow.startswith("udp") for flow in affected)
        before = site.counters.read()
        site.exclude([n for n in scenario.FIRST_SERVERS if n != LAGGING])
        verdict = finished(flows)
        assert verdict.broken == ()
        sums = grown(site, before)
        assert sums[laggard[0]]["tx_forward_chain"] > 0
        assert sum(s["pass_on"] for s in sums.values()) > 0
    finally:
        site.resume_agent(LAGGING)
    site.exclude([])
    site.await_equal(
        (scenario.WEB,), [n for n in scenario.FIRST_SERVERS if n != DRAINED_LATER], TIMEOUT_SECONDS
    )


def _affected(site: Site, flows: Sequence[str]) -> list[str]:
    """Flows whose current server is another in the newest table than in the laggard's."""
    newest, old = chains(site)[:, 0], loaded(site, LAGGING)[:, 0]
    return [flow for flow in flows if newest[bucket(site, flow)] != old[bucket(site, flow)]]
