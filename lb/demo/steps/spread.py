"""Spread: new connections are distributed over the servers by their shares of the table."""

from __future__ import annotations

import secrets
import time

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site import counters, nginx
from lb.demo.steps.context import StepContext
from lb.demo.traffic.cohort import Cohort
from lb.demo.traffic.verdicts import SPREAD_DEVIATIONS, deviations
from netns.brigade import server_name

OVER_SECONDS = 1.0


def spread(context: StepContext) -> list[StepResult]:
    """Open many short connections, and compare the accepted ones of each server with its share."""
    total = context.amounts.spread_connections
    context.progress.heading(f"spread: {total} new connections over the servers")
    site = context.site
    nonce = secrets.token_hex(4)
    before = site.counters.read()
    begun = time.monotonic()
    page = f"--page={nginx.ACCEPT_PATH}{nonce}"
    arguments = [f"--short={total}", page, f"--over-seconds={OVER_SECONDS}"]
    cohort = Cohort(site.client, scenario.WEB_VIP, "traffic-spread", arguments)
    cohort.wait_open()
    cohort.finish()
    verdict = cohort.verdict()
    result = StepResult("spread", seconds=time.monotonic() - begun, tcp_open=verdict.flows)
    result.broken = len(verdict.broken)
    result.promise(not verdict.broken, f"{len(verdict.broken)} connections broke")
    _compare(context, result, nonce)
    now = site.counters.read()
    for server in site.alive():
        grown = counters.growth(before[server], now[server])
        for what, names in (("first-hop", counters.FIRST_HOP), ("forwarded", counters.FORWARDED)):
            result.promise(counters.total(grown, names) > 0, f"{server} counted no {what} packet")
    return [result]


def _compare(context: StepContext, result: StepResult, nonce: str) -> None:
    total = context.amounts.spread_connections
    accepts = {
        server_name(number): nginx.accepts(context.site.nginx_base(number), nonce)
        for number in context.serving()
    }
    shares = context.site.store.shares(scenario.WEB)
    worst = 0.0
    for server, count in accepts.items():
        off = deviations(count, total, shares.get(server, 0.0))
        worst = max(worst, off)
        result.promise(
            off <= SPREAD_DEVIATIONS,
            f"{server} accepted {count} of {total}, {off:.1f} standard deviations from its share",
        )
    accepted = sum(accepts.values())
    result.promise(accepted == total, f"{accepted} were accepted, {total} were opened")
    result.more["accepts"] = accepts
    counted = ", ".join(f"{server} {count}" for server, count in sorted(accepts.items()))
    result.shown = f"accepted {counted}; at most {worst:.1f} standard deviations from the share"
