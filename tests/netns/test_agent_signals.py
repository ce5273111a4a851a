"""Signals end the agent, or have it read its settings again; they change nothing for packets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from controlplane.domain.objects import ServerState
from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import VIP, Fleet, cluster, table

ATTACHED = "ip -d link show dev eth0; tc filter show dev eth0 ingress; ip address show dev lo"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(1, 1, [VIP])) as network:
        yield Fleet(network)


def attached(fleet: Fleet) -> list[str]:
    host = fleet.host(1)
    pins = sorted(str(path) for path in host.bpffs.rglob("*"))
    return [*host.run(["sh", "-c", ATTACHED]).stdout.splitlines(), *pins]


def in_charge(fleet: Fleet, pid: int) -> bool:
    status = fleet.status(1)
    return fleet.ready(1) and (status.get("pid"), status.get("attached")) == (pid, True)


def test_signals_leave_everything_in_its_place(fleet: Fleet) -> None:
    fleet.publish(cluster(1, [ServerState.ACTIVE]))
    fleet.publish(table(1, [1, 0]))
    before: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        agent = fleet.up(1)
        wait_until(partial(in_charge, fleet, agent.id.pid), "attached anew")
        wait_until(lambda: not list(fleet.host(1).bpffs.glob("*:*")), "its pins")
        before = attached(fleet)
        assert any("prog/xdp" in line for line in before)
        assert any(str(VIP) in line for line in before)
        agent.signal(number)
        assert agent.wait(10) == 0, fleet.log(1)
        assert attached(fleet) == before
        assert fleet.ready(1), "what was announced stays announced"
    fleet.lbctl(1, "down", "--force")
    assert not set(attached(fleet)) & {line for line in before if str(VIP) in line}


def last_line(fleet: Fleet, event: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in fleet.log(1).splitlines() if line.startswith("{")]
    found: dict[str, Any] = next((x for x in reversed(lines) if x["event"] == event), {})
    return found


def test_a_hang_up_has_the_settings_read_again(fleet: Fleet) -> None:
    fleet.publish(cluster(1, [ServerState.ACTIVE]))
    fleet.publish(table(1, [1, 0]))
    agent = fleet.up(1)
    wait_until(partial(in_charge, fleet, agent.id.pid), "attached")
    before = attached(fleet)

    fleet.config(1, hook_timeout_seconds=3, mss="off")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: last_line(fleet, "settings read again"), "its line")
    line = last_line(fleet, "settings read again")
    assert (line["changed"], line["needs_a_restart"]) == (
        "hook_timeout_seconds: not set -> 3",
        "mss",
    )
    fleet.config(1, hook_timeout_seconds=0)
    agent.signal(signal.SIGHUP)
    wait_until(lambda: last_line(fleet, "settings not changed"), "its line")
    assert "must be more than 0" in last_line(fleet, "settings not changed")["reason"]
    wait_until(lambda: "settings" in fleet.status(1)["troubles"], "a trouble")
    assert in_charge(fleet, agent.id.pid)
    assert attached(fleet) == before

    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    agent = fleet.up(1, hook_timeout_seconds=0)
    wait_until(partial(in_charge, fleet, agent.id.pid), "started from the last good settings")
    assert "the last good settings are in use" in fleet.status(1)["troubles"]["settings"]
    fleet.config(1)
    agent.signal(signal.SIGHUP)
    wait_until(lambda: "settings" not in fleet.status(1)["troubles"], "no trouble any more")
    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0, fleet.log(1)
