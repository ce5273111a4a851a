"""Frames that the forwarder sends and the driver drops are noticed, by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from controlplane.domain.objects import ServerState
from netns import brigade
from netns.bpf import load_pass_all
from netns.build import build_route, index_of
from netns.network import Network
from netns.polling import wait_until
from tests.netns import talk
from tests.netns.agent_helpers import PORT, VIP, Fleet, cluster, table
from tests.netns.talk import Place, TcpClient

START_SECONDS = 60.0
TOLD_SECONDS = 3.0
"""From the first lost frame on; more on a machine that is busy with other tests."""
SLACK_SECONDS = 5.0
OVER_SECONDS = 30.0


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Everything enters by server 1 and belongs to server 2."""
    with Network(brigade.brigade(2, 1, [VIP])) as network:
        build_route(brigade.vip_route(VIP, (1,)), network[brigade.ROUTER])
        made = Fleet(network)
        made.publish(cluster(1, [ServerState.ACTIVE] * 2))
        made.publish(table(1, [2, 0]))
        yield made


def forwarded(fleet: Fleet, packets: int = 5) -> None:
    """Send packets for the VIP: the first ones of connections, to which nobody answers."""

    def send() -> None:
        for _ in range(packets):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.settimeout(0.0)
                sock.connect_ex((str(VIP), PORT))

    fleet.network[brigade.client_name(1)].call(send)


def trouble(fleet: Fleet) -> str:
    forwarded(fleet)
    return str(fleet.status(1)["troubles"].get("transmit", ""))


def attach_pass_all(netlink: Any) -> None:
    """Give the router's end of server 1's link an XDP program that passes everything."""
    program = load_pass_all()
    try:
        netlink.link("set", index=index_of(netlink, "server1"), xdp_fd=program)
    finally:
        os.close(program)


@pytest.mark.parametrize("gro", [False, True], ids=["bare", "gro"])
def test_a_veth_whose_other_end_does_not_take_frames_is_reported(fleet: Fleet, gro: bool) -> None:
    """Without an XDP program there all is lost; with GRO alone it waits there. Counted as sent."""
    router, host = fleet.network[brigade.ROUTER], fleet.host(1)
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    forwarded(fleet)
    assert trouble(fleet) == ""
    router.run(["ip", "link", "set", "dev", "server1", "xdp", "off"])
    router.run(["ethtool", "-K", "server1", "gro", "on" if gro else "off"])
    wait_until(lambda: trouble(fleet), "the trouble", TOLD_SECONDS + SLACK_SECONDS)
    line = trouble(fleet)
    assert "eth0 does not send all that the forwarder forwards" in line
    assert "attach an XDP program to the other end of the veth pair" in line
    page = host.run(["curl", "-s", f"http://{brigade.dip(1)}:9109/metrics"]).stdout
    (metric,) = (w for w in page.splitlines() if w.startswith("bucket_brigade_xdp_tx_lost_total"))
    assert float(metric.split()[1]) > 0
    router.netlink(attach_pass_all)
    wait_until(lambda: not trouble(fleet), "the trouble is over", OVER_SECONDS)


def test_generic_mode_needs_nothing_at_the_other_end(fleet: Fleet) -> None:
    """What the trouble's line names as a remedy is one."""
    fleet.network[brigade.ROUTER].run(["ip", "link", "set", "dev", "server1", "xdp", "off"])
    fleet.up(1, xdp_mode="generic")
    fleet.up(2)
    wait_until(lambda: fleet.ready(1) and fleet.ready(2), "ready", START_SECONDS)
    talk.serve_tcp(fleet.host(2), [PORT])
    client = fleet.network[brigade.client_name(1)]

    def answers() -> bool:
        with suppress(OSError), TcpClient(client, Place(VIP, PORT)) as connection:
            return connection.name() == brigade.server_name(2)
        return False

    wait_until(answers, "an answer by server 2")
