"""Servers with the same documents send a flow to the same server, whichever of them it hits."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

import numpy as np
import pytest

from lb.dataplane.dataplane import Dataplane
from lb.dataplane.load import bpf_syscall
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from tests.model import Flow, host
from tests.model.flow import bucket_of
from tests.model.frames import SERVER_MAC, ethernet, tcp_packet
from tests.packets.world import ACK, CLIENT, KEY, VIP

BUCKETS = 256
PASS = 2
DIPS = {index: IPv4Address("10.0.0.0") + index for index in range(1, 9)}
VIEW = ClusterView((ServiceEntry(host(VIP), 6, 80, "web"),), DIPS)
TABLE = (1 + np.arange(BUCKETS, dtype=np.uint16) % len(DIPS)).reshape(BUCKETS, 1)
PORTS = range(41000, 41064)


@pytest.fixture(scope="module")
def dataplane() -> Iterator[Dataplane]:
    with Dataplane.load(Identity(DIPS[1], SERVER_MAC, 1500, ifindex=1)) as loaded:
        yield loaded


def first_hop(dataplane: Dataplane, own: IPv4Address, port: int) -> IPv4Address:
    """Where a server sends a client's packet; itself, if it leaves it to its own stack."""
    frame = ethernet(tcp_packet(CLIENT, port, VIP, 80, flags=ACK))
    run = bpf_syscall.prog_test_run(dataplane.forwarder_fd, frame)
    return own if run.retval == PASS else IPv4Address(run.data[30:34])


@pytest.mark.parametrize("index", DIPS)
def test_each_server_sends_every_flow_where_the_table_says(
    dataplane: Dataplane, index: int
) -> None:
    own = DIPS[index]
    dataplane.remove_table("web")
    dataplane.set_identity(Identity(own, SERVER_MAC, 1500, ifindex=1))
    dataplane.set_cluster(VIEW)
    dataplane.set_table("web", TABLE, KEY)
    wanted = {
        port: DIPS[int(TABLE[bucket_of(Flow(6, CLIENT, port, VIP, 80).hash(KEY), BUCKETS), 0])]
        for port in PORTS
    }
    assert {port: first_hop(dataplane, own, port) for port in PORTS} == wanted
    assert len(set(wanted.values())) == len(DIPS)
