"""`lbctl rolling` at a site: real agents, a real controller, and a command that restarts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from controlplane.domain.errors import ExitCode
from lb.demo import scenario
from lb.demo.site import faults, remote
from lb.demo.site.remote import Remote
from lb.demo.site.site import Site, lbctl
from lb.demo.traffic.churn import LEAVES
from lb.demo.traffic.cohort import Cohort
from netns.brigade import server_name
from tests.netns.sites import finished

SECONDS = 240.0
pytestmark = pytest.mark.timeout(300)  # agents that start: each compiles its programs


def actions(site: Site) -> remote.Actions:
    numbers = {server_name(number): number for number in scenario.FIRST_SERVERS}

    def without_web(name: str) -> None:
        """Restart the agent; the web server does not come back."""
        site.restart(numbers[name])
        site.running[numbers[name]].pop("nginx").stop()

    return {
        "restart": lambda name: site.restart(numbers[name]),
        "reboot": lambda name: site.reboot(numbers[name]),
        "without-web": without_web,
    }


def churn(site: Site) -> Cohort:
    """Flows of all kinds that end after at most some seconds, each replaced by a new one."""
    ports = 4000
    arguments = ["--downloads=20", "--idle=20", "--udp=15", "--longest=3"]
    arguments += [f"--udp-source-port={site.take_udp_ports(ports)}", f"--udp-ports={ports}"]
    arguments += [f"--file={path}" for path in site.files]
    return Cohort(site.client, scenario.WEB_VIP, "traffic-rolling", arguments, "churn")


def rolling(
    site: Site, journal: Path, action: str, servers: Sequence[int], *words: str
) -> tuple[int, str, str]:
    """Run it on the controller's machine; return its exit code and what it printed."""
    socket = site.controller.run_dir / "remote.sock"
    names = ",".join(map(server_name, servers))
    options = ["--servers", names, "--journal", str(journal), "--config", str(site.control_file)]
    command = remote.command(socket, action)
    with Remote(socket, actions(site)):
        done = site.controller.run(
            [lbctl(), "rolling", *options, *words, "--", *command], SECONDS, check=False
        )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("action", "servers"), [("restart", (1, 2)), ("reboot", (3,))])
def test_services_and_agents_restart_and_no_flow_breaks(
    site: Site, tmp_path: Path, action: str, servers: tuple[int, ...]
) -> None:
    before = {n: site.running[n]["agent"].pid for n in servers}
    flows = churn(site)
    flows.wait_open()
    # No flow stays open for longer than this pool's drain time, nor for longer than a drain waits.
    for number in scenario.FIRST_SERVERS:
        flows.note(f"{LEAVES} {server_name(number)}")
    journal = tmp_path / "journal.jsonl"
    code, out, error = rolling(site, journal, action, servers)
    verdict = finished(flows)  # also after a failure: open flows would hold the next drain
    assert code == 0, error
    assert verdict.broken == ()
    assert verdict.flows > 100
    assert "not probed" not in out
    last = out.splitlines()[-1]
    assert last.startswith(f"{len(servers)} server")
    assert "still open" not in last
    assert all(site.running[n]["agent"].pid != before[n] for n in servers)
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [e["server"] for e in events if e["event"] == "done"] == [
        server_name(n) for n in servers
    ]
    assert site.store.drained() == frozenset()


def test_a_server_whose_web_server_does_not_come_back_stays_drained(
    site: Site, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    code, _, error = rolling(site, journal, "without-web", [1], "--wait-ready", "40s")
    try:
        assert code == ExitCode.TIMEOUT
        assert "server1: return not complete after 40 s: " in error
        assert "Connection refused" in error or "refuses connections" in error
        assert "to end it: lbctl undrain server1" in error
        assert site.store.drained() == {"server1"}
        assert site.store.buckets(scenario.WEB).get("server1", 0) == 0
    finally:
        site.restart(1)


def test_a_server_that_others_do_not_reach_stays_drained(site: Site, tmp_path: Path) -> None:
    """Its agent is well, its checks pass: only the way through the tunnel is blocked."""
    journal = tmp_path / "journal.jsonl"
    socket = site.controller.run_dir / "remote.sock"
    blocked = {"block": lambda name: faults.block(site, int(name.removeprefix("server")))}
    words = ["--servers", "server3", "--journal", str(journal), "--wait-ready", "12s"]
    with Remote(socket, blocked):
        done = site.controller.run(
            [
                *(lbctl(), "rolling", *words, "--config", str(site.control_file)),
                *("--", *remote.command(socket, "block")),
            ],
            SECONDS,
            check=False,
        )
    try:
        assert done.returncode in (ExitCode.TIMEOUT, ExitCode.FAILED)
        # By what it stops depends on how far the controller is with taking it out.
        signs = ("probe through the tunnel", "are lost from", "it is down")
        assert any(sign in done.stderr for sign in signs)
        assert '"undrain"' not in journal.read_text()
    finally:
        faults.unblock(site, 3)
