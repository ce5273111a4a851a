"""`lbctl up` on links without room: SYN-ACKs leave it, from `up` to `down`, agent or no agent."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from controlplane.domain.objects import ServerState
from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import PORT, VIP, Fleet, cluster, table

ONE = [ServerState.ACTIVE]
MTU = brigade.CLIENT_MTU
LOOK = "ip address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    topology = brigade.brigade(1, 1, [VIP], server_mtu=MTU)
    with Network(topology) as network:
        # Without timestamps TCP_MAXSEG is what the other side advertised.
        network[brigade.client_name(1)].sysctl("net.ipv4.tcp_timestamps", "0")
        yield Fleet(network)


def look(fleet: Fleet) -> list[str]:
    shown = fleet.host(1).run(["sh", "-c", LOOK]).stdout.splitlines()
    return [line.partition("valid_lft")[0] for line in shown]


def mss(fleet: Fleet) -> int:
    with fleet.network[brigade.client_name(1)].entered():
        caller = socket.create_connection((str(VIP), PORT), 3)
    with caller:
        return caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def start(fleet: Fleet) -> None:
    listen = (
        f"import socket\nlistener = socket.create_server(('', {PORT}))\n"
        "while True: listener.accept()[0].close()"
    )
    fleet.host(1).popen([sys.executable, "-c", listen], "listen")
    fleet.publish(cluster(1, ONE))
    fleet.publish(table(1, [1, 0]))


def test_from_up_to_down_syn_acks_leave_room(fleet: Fleet) -> None:
    host = fleet.host(1)
    before = look(fleet)
    start(fleet)
    fleet.config(1)
    planned = fleet.lbctl(1, "up", "--dry-run").stdout
    assert "mirror the main routing table in table 6080" in planned
    assert f"add a rule of priority 32765: from {VIP}/32 lookup 6080" in planned
    assert look(fleet) == before

    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    assert mss(fleet) == MTU - 40 - 40, "no client may come before it is lowered"
    wait_until(lambda: fleet.status(1).get("mss_room") == 40, "it is told")
    assert fleet.status(1)["troubles"] == {}
    fleet.publish(cluster(2, ONE, depth=4))
    wait_until(lambda: mss(fleet) == MTU - 40 - 48, "the deeper pool", 3)
    gateway = str(brigade.router_address(1))
    host.run(["ip", "route", "replace", "default", "via", gateway, "mtu", "1400"])
    wait_until(lambda: mss(fleet) == 1400 - 40 - 48, "the other route", 3)
    host.run(["ip", "route", "replace", "default", "via", gateway, "proto", "static"])
    wait_until(lambda: mss(fleet) == MTU - 40 - 48, "the first route", 3)

    agent.signal(signal.SIGKILL)
    wait_until(lambda: agent.poll() is not None, "dead")
    assert mss(fleet) == MTU - 40 - 48
    said = fleet.lbctl(1, "down", "--force").stdout
    assert "of routing table 6080" in said
    assert look(fleet) == before
    host.run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
    assert mss(fleet) == MTU - 40


def test_another_start_with_other_settings_undoes_the_first(fleet: Fleet) -> None:
    start(fleet)
    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1) and mss(fleet) == MTU - 40 - 40, "lowered")
    agent.kill()
    fleet.up(1, mss="off", mss_table=77)
    wait_until(lambda: mss(fleet) == MTU - 40, "nothing is lowered")
    shown = "".join(look(fleet))
    assert "6080" not in shown
    assert "lookup 77" not in shown
    wait_until(lambda: "mtu" in fleet.status(1)["troubles"], "it is told")
