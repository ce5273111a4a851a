"""All servers are restarted twice in a row, with default settings, under flows of mixed lifetimes.

Before, with chains of two, 10,506 hops were forced out by the first restart and 28,964 by the
second, and broke 57 TCP connections and 11 UDP flows. `tests/property/test_rolling.py` shows the
same with loads that vary.
"""

from __future__ import annotations

import time

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from lb.demo.traffic.cohort import Cohort
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.field.defaults import running_site  # noqa: F401 - a fixture
from tests.netns.field.operator import ask, metric
from tests.netns.sites import TIMEOUT_SECONDS, cohort

PROGRAMS = ("nginx", "echo", "work")
WAIT_SECONDS = "40"


def restart(site: Site, number: int, *, agent: bool) -> None:
    """Restart what runs on a drained server; forwarding continues in between."""
    for name in PROGRAMS:
        if name in site.running[number]:
            site.running[number][name].stop()
    if agent:
        site.running[number]["agent"].stop(10.0)
    site.start_services(number)
    if agent:
        started_at = time.time()
        site.start_agent(number)
        site.await_ready([number], started_at)


def end(flows: list[Cohort]) -> int:
    """Bring flows to their end; return how many there were. None may be broken."""
    count = 0
    for one in flows:
        one.finish()
    for one in flows:
        verdict = one.verdict()
        assert verdict.broken == ()
        count += verdict.flows
    return count


@pytest.mark.timeout(400)
def test_two_rolling_restarts_break_nothing(site: Site) -> None:
    """Flows are opened before each drain, during it, and while the server is away."""
    ended, open_flows = 0, [cohort(site, downloads=5, idle=10, udp=4)]
    for number in (*scenario.FIRST_SERVERS, *scenario.FIRST_SERVERS):
        name = server_name(number)
        wait_until(
            lambda name=name: ask(site, "drain", name).code == 0,  # type: ignore[misc]
            f"the drain of {name} is allowed: those before it are active again",
            TIMEOUT_SECONDS,
        )
        old, open_flows = open_flows, [cohort(site, downloads=4, idle=6, udp=3)]
        held = cohort(site, idle=6, udp=2)
        ended += end(old)
        drained = ask(site, "drain", name, "--wait", "--timeout", WAIT_SECONDS)
        assert drained.code == 0, drained.err
        restart(site, number, agent=ended > 0 and number % 2 == 0)
        open_flows.append(held)
        site.run_lbctl("undrain", name)
    ended += end(open_flows)
    assert ended >= 150
    assert metric(site, "hops_forced_total") == 0
