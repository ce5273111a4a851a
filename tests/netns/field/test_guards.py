"""Operators drain all servers, one after the other or at once: a pool keeps what it needs.

Before, all four drains were accepted, everything went to the last server and 240 TCP connections
and 44 UDP flows broke.
"""

from __future__ import annotations

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.field.defaults import running_site  # noqa: F401 - a fixture
from tests.netns.field.operator import ask, ask_at_once, metric
from tests.netns.sites import TIMEOUT_SECONDS, cohort, finished

REFUSED = 3
NAMES = [server_name(number) for number in scenario.FIRST_SERVERS]


def serving(site: Site) -> set[str]:
    """Return the servers that are current for a bucket of the pool `web`."""
    return {name for name, count in site.store.buckets(scenario.WEB).items() if count}


def test_all_servers_drained_one_after_the_other(site: Site) -> None:
    flows = cohort(site, downloads=20, idle=30, udp=20)
    answers = [ask(site, "drain", name) for name in NAMES]
    codes = [answer.code for answer in answers]
    assert codes.count(0) == 2, codes
    assert codes.count(REFUSED) == 2, codes
    refused = answers[codes.index(REFUSED)].err
    assert "servers active, and needs 2 (min_active 0.5)" in refused
    assert "--force" in refused
    wait_until(lambda: len(serving(site)) == 2, "two have left", TIMEOUT_SECONDS)
    assert finished(flows).broken == ()
    assert metric(site, "hops_forced_total") == 0


def test_all_servers_drained_at_the_same_moment(site: Site) -> None:
    flows = cohort(site, idle=30, udp=20)
    answers = ask_at_once(site, *(("drain", name, "--json") for name in NAMES))
    went = {name for name, answer in zip(NAMES, answers, strict=True) if answer.code == 0}
    assert {answer.code for answer in answers} <= {0, REFUSED}
    # The work pool has three of the servers, so one pair of drains can be too much for it.
    assert 1 <= len(went) <= 2
    wait_until(lambda: serving(site) == {*NAMES} - went, "the others serve", TIMEOUT_SECONDS)
    assert site.store.drained() == went, "nothing is left to begin later"
    assert finished(flows).broken == ()


def test_a_preview_and_why(site: Site) -> None:
    name = NAMES[3]
    seen = ask(site, "drain", name, "--dry-run", "--json").json()
    assert seen["outcome"] == "allowed"
    (web,) = [pool for pool in seen["pools"] if pool["pool"] == scenario.WEB]
    assert (web["stay"], web["members"], web["needed"], web["forced"]) == (3, 4, 2, 0)
    assert web["buckets"] == site.store.buckets(scenario.WEB)[name]
    assert site.store.drained() == frozenset()
    assert ask(site, "drain", name).code == 0
    wait_until(lambda: name not in serving(site), "drained", TIMEOUT_SECONDS)

    def explained() -> bool:
        pools = {pool["name"]: pool for pool in ask(site, "why", name, "--json").json()["pools"]}
        reasons = [missing["reason"] for missing in pools[scenario.WEB]["missing"]]
        return pools[scenario.WEB]["buckets"] == 0 and reasons == ["draining"]

    wait_until(explained, "the controller has explained it", TIMEOUT_SECONDS)
    text = ask(site, "why", name).out
    assert text.startswith(f"{name} has 0 of ")
    assert " draining\n" in text.partition("pool")[0]
    unknown = ask(site, "why", "server44")
    assert unknown.code == 2
    assert "did you mean" in unknown.err


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_the_last_server(site: Site, words: tuple[str, ...]) -> None:
    """Not even by mistake: only by force."""
    for name in NAMES[:3]:
        assert ask(site, "drain", name, "--force").code == 0
    wait_until(lambda: serving(site) == {NAMES[3]}, "one is left", TIMEOUT_SECONDS)
    answer = ask(site, "drain", NAMES[3], *words)
    assert answer.code == (0 if words else REFUSED)
    assert "0 of 4 servers stay active (2 needed)" in answer.out
    assert serving(site) == {NAMES[3]}, "by force, the last table stays"
