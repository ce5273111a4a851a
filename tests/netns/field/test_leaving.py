"""A planned `lbctl down` loses no packet of anybody, or does not happen."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns import brigade
from netns.polling import wait_until
from netns.process import Process
from tests.netns.agent_helpers import LBCTL, VIP
from tests.netns.field.controlled import START_SECONDS, UDP_PORT, Controlled, controlled

LEAVER = 3
NAME = brigade.server_name(LEAVER)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def fleet() -> Iterator[Controlled]:
    with controlled() as made:
        yield made


def down(fleet: Controlled, *options: str) -> Process:
    """Start `lbctl down` on server 3."""
    host = fleet.host(LEAVER)
    words = [*LBCTL, "down", "--config", str(host.base / "agent.toml"), *options]
    return host.popen(words, "down")


def attached(fleet: Controlled, number: int = LEAVER) -> bool:
    link = fleet.host(number).run(["ip", "-d", "link", "show", "dev", brigade.INTERFACE]).stdout
    return "prog/xdp" in link


def end_of(process: Process, seconds: float = START_SECONDS) -> int:
    wait_until(lambda: process.poll() is not None, "lbctl down ends", seconds)
    code = process.poll()
    assert code is not None
    return code


@pytest.mark.parametrize("agent", ["runs", "killed"])
def test_a_planned_down_loses_no_datagram_of_others(fleet: Controlled, agent: str) -> None:
    """The oldest hop of a third of the buckets leaves: UDP visits it first."""
    fleet.drain(LEAVER)
    with fleet.traffic() as flows:
        if agent == "killed":
            next(p for p in fleet.host(LEAVER).processes if p.name.startswith("agent")).kill()
        leaving = down(fleet)
        code = end_of(leaving)
        assert (code, attached(fleet)) == (0, False), leaving.output()
        counted = flows.finish()
    assert counted["sent"] > 3000
    assert (counted["lost"], counted["moved"], counted["refused"]) == (0, 0, 0), counted
    assert "no server sends packets here any more" in leaving.output()
    assert fleet.store.reports()[NAME].stopped


def test_without_a_controller_down_refuses_and_names_the_remedy_and_its_cost(
    fleet: Controlled,
) -> None:
    fleet.drain(LEAVER)
    assert fleet.control is not None
    fleet.control.kill()
    with fleet.traffic() as flows:
        leaving = down(fleet)
        assert end_of(leaving) == 3
        counted = flows.finish()
    assert (counted["lost"], counted["refused"]) == (0, 0), counted
    for text in ("no controller runs", "lbctl control", "--force", "lose the packets"):
        assert text in leaving.output()
    assert attached(fleet)
    assert fleet.ready(LEAVER)
    forced = down(fleet, "--force")
    assert (end_of(forced), attached(fleet)) == (0, False), forced.output()


def test_a_down_that_would_take_too_long_leaves_the_server_as_it_was(fleet: Controlled) -> None:
    """Server 2's agent hangs: it goes on with a table that names server 3."""
    fleet.drain(LEAVER)
    agent = next(p for p in fleet.host(2).processes if p.name.startswith("agent"))
    agent.signal(signal.SIGSTOP)
    with fleet.traffic() as flows:
        leaving = down(fleet, "--timeout", "5")
        assert end_of(leaving) == 4
        counted = flows.finish()
    assert (counted["lost"], counted["refused"]) == (0, 0), counted
    assert "lbctl servers" in leaving.output()
    lines = [line for line in leaving.output().splitlines() if line.startswith("waiting: ")]
    assert lines, "what takes longer than 2 s says what it waits for"
    assert attached(fleet)
    assert fleet.ready(LEAVER)
    agent.signal(signal.SIGCONT)
    fleet.operator("undrain", NAME)
    wait_until(lambda: fleet.states()[NAME] == "active", "it serves again")


def test_a_down_that_is_killed_requests_nothing_any_more(fleet: Controlled) -> None:
    agent = next(p for p in fleet.host(2).processes if p.name.startswith("agent"))
    fleet.drain(LEAVER)
    agent.signal(signal.SIGSTOP)
    leaving = down(fleet)
    wait_until(lambda: fleet.store.reports()[NAME].leaving, "the request is reported")
    shown = json.loads(fleet.operator("servers", "--json"))["servers"][LEAVER - 1]
    assert shown["agent"] == "leaving"
    leaving.kill()
    wait_until(lambda: not fleet.store.reports()[NAME].leaving, "the request is gone")
    agent.signal(signal.SIGCONT)
    assert fleet.ready(LEAVER)


def hooks(path: Path) -> dict[str, list[str]]:
    line = f'echo "$0 $(date +%s.%N)" >> {path}'
    return {name: ["sh", "-c", line, name] for name in ("on_ready", "on_withdraw")}


@pytest.mark.parametrize("option", [(), ("--force",)], ids=["planned", "forced"])
def test_nothing_is_taken_away_before_routers_know_of_the_withdrawal(
    fleet: Controlled, option: tuple[str, ...]
) -> None:
    host = fleet.host(LEAVER)
    log = host.base / "hooks.log"
    next(p for p in host.processes if p.name.startswith("agent")).kill()
    fleet.up(LEAVER, withdraw_settle_seconds=2.5, **hooks(log))
    wait_until(log.exists, "on_ready ran", START_SECONDS)
    fleet.drain(LEAVER)
    leaving = down(fleet, *option)
    wait_until(lambda: "on_withdraw" in log.read_text(), "withdrawn", START_SECONDS)
    withdrawn = time.monotonic()
    wait_until(lambda: not fleet.ready(LEAVER), "not ready")
    while time.monotonic() < withdrawn + 1.5:
        assert attached(fleet)
        assert str(VIP) in host.run(["ip", "address", "show", "dev", "lo"]).stdout
    assert (end_of(leaving), attached(fleet)) == (0, False), leaving.output()
    assert log.read_text().count("on_withdraw") == 1


HOLD = f"""
import socket, time
flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flow.settimeout(0.5)
flow.connect(("{VIP}", {UDP_PORT}))
while True:
    try:
        flow.send(b"1")
        print(flow.recv(100).split()[0].decode(), flush=True)
    except OSError:
        pass
    time.sleep(0.1)
"""


def test_a_udp_flow_counts_as_a_connection(fleet: Controlled) -> None:
    """For the report, `drain --wait` and `down`."""
    client = fleet.network[brigade.client_name(1)]
    holding = [client.popen([sys.executable, "-c", HOLD], f"hold{n}") for n in range(8)]
    wait_until(lambda: all(p.output() for p in holding), "every flow is answered")
    owners = [p.output().splitlines()[0] for p in holding]
    number = int(owners[0].removeprefix("server"))
    wait_until(
        lambda: fleet.store.reports()[owners[0]].connections >= owners.count(owners[0]),
        "the report counts them",
    )
    refused = fleet.network[brigade.CONTROLLER].run(
        [*LBCTL, "drain", owners[0], "--wait", "--timeout", "4", "--config", fleet.control_file],
        check=False,
    )
    assert refused.returncode == 4
    assert "connections" in refused.stderr
    assert "buckets" not in refused.stderr
    blocked = fleet.lbctl(number, "down", check=False)
    assert blocked.returncode == 3
    assert "connections on VIPs" in blocked.stderr
