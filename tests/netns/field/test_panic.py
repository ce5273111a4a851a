"""The health checks of all servers fail at once, after some had begun to drain.

Before, the table stayed as it was in that moment: 31,555 / 0 / 33,981 / 0.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.field.defaults import running_site  # noqa: F401 - a fixture
from tests.netns.field.operator import ask, metric
from tests.netns.sites import TIMEOUT_SECONDS, cohort, finished

WELL = 'return 200 "well\\n";'
BY_FILE = f"if (-f ILL) {{ return 503; }} {WELL}"
FIRST = (2, 4)
OTHERS = (1, 3)


def mark(site: Site, number: int) -> Path:
    """The file whose existence makes a server's web server answer its checks with 503."""
    return site.nginx_base(number) / "ill"


@pytest.fixture
def marked(site: Site) -> Iterator[Site]:
    """A site whose checks fail by a file: requests are served as before, and no flow is closed."""
    for number in scenario.FIRST_SERVERS:
        (file,) = site.nginx_base(number).glob("*.conf")
        text = file.read_text().replace(WELL, BY_FILE.replace("ILL", str(mark(site, number))))
        file.write_text(text)
        site.running[number]["nginx"].signal(signal.SIGHUP)
    yield site
    for number in scenario.FIRST_SERVERS:
        mark(site, number).unlink(missing_ok=True)


def unhealthy(site: Site) -> set[str]:
    """Return the servers that report failing checks."""
    servers = ask(site, "servers", "--json").json()["servers"]
    return {server["name"] for server in servers if server["unhealthy"]}


def current(site: Site) -> dict[str, int]:
    found = site.store.buckets(scenario.WEB)
    return {name: count for name, count in found.items() if count}


def test_a_half_drained_table_comes_back_and_no_flow_breaks(marked: Site) -> None:
    site = marked
    for number in scenario.FIRST_SERVERS:  # the web servers have read their settings
        mark(site, number).touch()
        wait_until(lambda: unhealthy(site), "a check fails", TIMEOUT_SECONDS)
        mark(site, number).unlink()
        wait_until(lambda: not unhealthy(site), "it succeeds again", TIMEOUT_SECONDS)
    site.await_equal([scenario.WEB], scenario.FIRST_SERVERS, TIMEOUT_SECONDS)
    flows = cohort(site, downloads=20, idle=30, udp=20)
    before = current(site)
    for number in FIRST:
        mark(site, number).touch()
    others = {server_name(number) for number in OTHERS}
    wait_until(lambda: current(site).keys() == others, "two servers drain", TIMEOUT_SECONDS)
    for number in OTHERS:
        mark(site, number).touch()
    wait_until(lambda: metric(site, "panic") > 0, "a panic", TIMEOUT_SECONDS)
    wait_until(lambda: current(site) == before, "all have their buckets again", TIMEOUT_SECONDS)
    assert "PANIC" in ask(site, "servers").out
    assert metric(site, "hops_forced_total") == 0
    for number in scenario.FIRST_SERVERS:
        mark(site, number).unlink()
    wait_until(lambda: not unhealthy(site), "all are well", TIMEOUT_SECONDS)
    assert "PANIC" in ask(site, "servers").out, "it may begin again, so it does not end at once"
    assert finished(flows).broken == ()
