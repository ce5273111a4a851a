"""Signals end the agent and change nothing for packets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial

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
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
