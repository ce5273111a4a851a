"""`lbctl trace` under traffic: what it shows, and what is left when it ends, or is killed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.objects import ServerState
from netns import brigade
from netns.build import replace_route
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from tests.netns.agent_helpers import LBCTL, PORT, VIP, Fleet, cluster, table
from tests.netns.test_agent_restart import CLIENT, SERVER, programs

CONNECT = f"import socket; socket.create_connection(('{VIP}', {PORT}), 5).close()"
START_SECONDS = 60.0
"""The programs are compiled anew, on machines that do other things as well."""


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two servers; everything arrives at the first and belongs to the second."""
    with Network(brigade.brigade(2, 1, [VIP])) as network:
        made = Fleet(network)
        network[brigade.ROUTER].netlink(
            lambda netlink: replace_route(netlink, brigade.vip_route(VIP, [1]))
        )
        made.publish(cluster(1, [ServerState.ACTIVE] * 2))
        made.publish(table(1, [2, 0]))
        yield made


@pytest.fixture
def transfer(fleet: Fleet) -> Iterator[Process]:
    """Bytes that flow from server 2 to the client all the while, and must arrive whole."""
    for number in (1, 2):
        fleet.up(number)
    wait_until(lambda: fleet.ready(1) and fleet.ready(2), "both ready", START_SECONDS)
    wait_until(lambda: fleet.acknowledged(1).get("table/web") == 1, "the table")
    server, client = fleet.host(2), fleet.network[brigade.client_name(1)]
    enough = server.base / "enough"
    server.popen([sys.executable, "-c", SERVER, enough], "server")
    wait_until(lambda: f":{PORT}" in server.run(["ss", "-tln"]).stdout, "listening")
    running = client.popen([sys.executable, "-c", CLIENT], "client")
    flows_on(running)
    yield running
    flows_on(running)
    enough.touch()
    assert running.wait(10) == 0, running.output()[-500:]


def flows_on(transfer: Process) -> None:
    blocks = transfer.output().count("\n")
    wait_until(lambda: transfer.output().count("\n") > blocks + 10, "bytes flow")


def start_trace(fleet: Fleet, number: int, name: str, *words: str) -> Process:
    host = fleet.host(number)
    config: list[str | Path] = ["--config", host.base / "agent.toml"]
    limits = ["--count", "1000000", "--seconds", "100"]
    trace = host.popen([*LBCTL, "trace", "--json", *config, *limits, *words], name)

    def is_on() -> bool:
        assert trace.poll() is None, trace.output()
        return "tracing" in trace.output()

    wait_until(is_on, "the trace is on", START_SECONDS)
    return trace


def events(trace: Process) -> list[dict[str, Any]]:
    lines = trace.output().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def syn(trace: Process, counter: str) -> dict[str, Any] | None:
    found = (e for e in events(trace) if (e["counter"], e["flags"]) == (counter, "S"))
    return next(found, None)


def pins(fleet: Fleet, number: int) -> list[Path]:
    return sorted(fleet.host(number).bpffs.rglob("*"))


def test_a_trace_shows_both_ends_of_a_flow_that_does_not_notice(
    fleet: Fleet, transfer: Process
) -> None:
    before = [(programs(fleet, number), pins(fleet, number)) for number in (1, 2)]
    traces = [start_trace(fleet, number, f"trace-{number}") for number in (1, 2)]
    for number in (1, 2):
        assert not set(programs(fleet, number)) & set(before[number - 1][0])
    assert json.loads(fleet.lbctl(1, "status", "--json").stdout)["trace"]
    assert fleet.lbctl(1, "trace", check=False).returncode == 3, "one at a time"

    client = fleet.network[brigade.client_name(1)]
    client.run([sys.executable, "-c", CONNECT])
    wait_until(lambda: syn(traces[0], "tx_forward"), "the SYN at server 1")
    wait_until(lambda: syn(traces[1], "accept_last_hop"), "the SYN at server 2")
    sent, taken = syn(traces[0], "tx_forward"), syn(traces[1], "accept_last_hop")
    assert sent is not None
    assert taken is not None
    for event in (sent, taken):
        assert (event["client"], event["vip"]) == (str(brigade.client_address(1)), str(VIP))
        assert (event["vip_port"], event["protocol"]) == (PORT, "tcp")
        assert (event["pool"], event["chain"]) == ("web", [brigade.server_name(2)])
        assert event["gue"]["source"] == brigade.server_name(1)
        assert event["gue"]["destination"] == brigade.server_name(2)
    assert (sent["client_port"], sent["bucket"]) == (taken["client_port"], taken["bucket"])
    assert (sent["program"], taken["program"]) == ("forwarder", "redirector")
    flows_on(transfer)
    # No service runs on server 1; the agent knows whose the attached programs are.
    assert fleet.status(1)["troubles"].keys() <= {"watch listeners"}

    for trace, number in zip((signal.SIGINT, signal.SIGTERM), (0, 1), strict=True):
        traces[number].signal(trace)
        assert traces[number].wait(10) == 130
    assert [(programs(fleet, n), pins(fleet, n)) for n in (1, 2)] == before
    assert not json.loads(fleet.lbctl(1, "status", "--json").stdout)["trace"]


def test_a_killed_trace_forwards_until_somebody_removes_it(fleet: Fleet, transfer: Process) -> None:
    plain, usual = programs(fleet, 1), pins(fleet, 1)
    start_trace(fleet, 1, "killed", "--verdict", "drop_*").kill()
    assert not set(programs(fleet, 1)) & set(plain)
    flows_on(transfer)
    assert "removed" in fleet.lbctl(1, "trace", "--off").stdout
    assert (programs(fleet, 1), pins(fleet, 1)) == (plain, usual)
    assert "no trace" in fleet.lbctl(1, "trace", "--off").stdout

    start_trace(fleet, 1, "killed-too").kill()
    traced = programs(fleet, 1)
    agents = [p for p in fleet.host(1).processes if p.name.startswith("agent")]
    agents[0].kill()
    fleet.up(1)
    wait_until(lambda: not set(programs(fleet, 1)) & set(traced), "replaced", START_SECONDS)
    wait_until(lambda: pins(fleet, 1) == usual, "pins as ever")
    flows_on(transfer)


def test_down_removes_a_trace_that_runs(fleet: Fleet) -> None:
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    trace = start_trace(fleet, 1, "trace", "--client", "198.51.100.0/24")
    fleet.lbctl(1, "down", "--force")
    assert "prog/xdp" not in fleet.host(1).run(["ip", "link"]).stdout
    assert "clsact" not in fleet.host(1).run(["tc", "qdisc"]).stdout
    assert not fleet.host(1).bpffs.exists() or not pins(fleet, 1)
    assert trace.wait(10) == 1
    assert "replaced" in trace.output()
