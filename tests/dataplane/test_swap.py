"""A new table is written beside the one in use: until the swap, packets see nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest

from lb.dataplane.dataplane import Dataplane
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps import grace, tables
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from tests.model import host
from tests.model.frames import SERVER_MAC, ethernet
from tests.packets.world import ACK, KEY, VIP, dip, tcp

OWN, B, C = (dip(number) for number in range(1, 4))
WEB = ServiceEntry(host(VIP), 6, 80, "web")
VIEW = ClusterView(services=(WEB,), dips={1: OWN, 2: B, 3: C})
FRAME = ethernet(tcp(ACK))


@pytest.fixture
def dataplane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataplane]:
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.0)
    with Dataplane.load(Identity(OWN, SERVER_MAC, 1500, ifindex=1)) as loaded:
        loaded.set_cluster(VIEW)
        yield loaded


def first_hop(dataplane: Dataplane) -> IPv4Address:
    return IPv4Address(bpf_syscall.prog_test_run(dataplane.forwarder_fd, FRAME).data[30:34])


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("buckets", [256, 131072])
def test_packets_see_the_old_table_until_the_new_one_is_whole(
    dataplane: Dataplane, monkeypatch: pytest.MonkeyPatch, buckets: int, depth: int
) -> None:
    seen: list[IPv4Address] = []
    write = tables.InnerRun.write

    def write_and_look(run: tables.InnerRun, words: Any) -> None:
        write(run, words)
        seen.append(first_hop(dataplane))

    def table_of(index: int) -> Any:
        table = np.zeros((buckets, depth), dtype=np.uint16)
        table[:, 0] = index
        return table

    dataplane.set_table("web", table_of(2), KEY)
    monkeypatch.setattr(tables.InnerRun, "write", write_and_look)
    after = []
    for index in (3, 2, 3, 2):
        dataplane.set_table("web", table_of(index), KEY)
        after.append(first_hop(dataplane))
    assert after == [C, B, C, B]
    assert seen == [B, C, B, C]
