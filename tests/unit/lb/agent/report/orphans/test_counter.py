"""The thread that counts orphans: each flow once, at a bounded cost."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest
from numpy.typing import NDArray

from controlplane.domain.objects import TCP, FlowName, Pool, Server, ServerState, Service, Table
from lb.agent.facts import SharedFacts
from lb.agent.report.orphans.counter import LOOK_SECONDS, REST, OrphanCounter
from lb.agent.report.orphans.lookup import BATCH, have_sockets
from lb.dataplane.maps.resets import ResetCounts, ResetFlows
from lb.flow_hash import Flow as OurFlow
from lb.flow_hashes import FlowColumns
from lb.led_here import Steering, pool_here
from tests.model.flow import Flow
from tests.unit.lb.agent.report.orphans.test_sorting import flows
from tests.unit.lb.flows import columns

VIP = IPv4Address("192.0.2.10")
CLIENT = IPv4Address("198.51.100.7")
KEY = bytes(range(16))
BUCKETS = 256
SECOND = 10**9
LOOPBACK = IPv4Address("127.0.0.1")


def steering() -> Steering:
    slots = np.tile(np.array([2, 1], np.uint16), (BUCKETS, 1))
    table = Table("web", 1, 1, slots, np.zeros(BUCKETS, np.uint32))
    own = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
    here = pool_here(table, Pool("web", BUCKETS, 2), KEY, own, 0.0)
    return Steering(1, (Service("web", IPv4Network(VIP), TCP, 80, "web"),), {"web": here}, own.dip)


class Rig:
    """A counter with a clock, a data plane and sockets of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.cpu, self.cost = 1000.0, 0.0, 0.0
        self.resets: list[tuple[int, int]] = []
        self.reads = 0
        self.closed: set[int] = set()
        self.facts = SharedFacts(0.0)
        self.facts.update(steering=steering())
        monkeypatch.setattr(time, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(time, "monotonic_ns", lambda: int(self.now * SECOND))
        self.counter = OrphanCounter(
            self.facts,
            lambda use: use(self),
            self.have_sockets,
            lambda: ("eth1",),
            lambda: self.now,
        )

    def reset(self, port: int, age: float = 0.01) -> None:
        """Have a reset leave for a flow from this port."""
        self.resets.append((port, int((self.now - age) * SECOND)))

    def reset_counts(self) -> ResetCounts:
        return ResetCounts(len(self.resets), 0)

    def reset_flows(self) -> ResetFlows:
        self.reads += 1
        self.cpu += self.cost
        found = flows(*(Flow(TCP, CLIENT, port, VIP, 80) for port, _ in self.resets))
        return ResetFlows(found, np.array([at for _, at in self.resets], np.uint64))

    def have_sockets(self, found: FlowColumns) -> NDArray[np.bool_]:
        ports = [int(p) & 0xFFFF for p in found.ports]
        known = [int.from_bytes(p.to_bytes(2, "little"), "big") in self.closed for p in ports]
        return np.array(known, np.bool_)

    def run(self, seconds: float) -> int:
        """Let time pass; return how many orphans are counted then."""
        until = self.now + seconds
        while self.now < until:
            self.now += self.counter.step()
        return sum(self.facts.current.orphans_total.values())

    def named(self) -> list[FlowName]:
        return list(self.counter.named(self.now))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_each_flow_is_counted_once_and_named(rig: Rig) -> None:
    assert rig.run(1.0) == 0
    assert dict(rig.facts.current.orphans_total) == {
        ("web", "died"): 0,
        ("web", "moved"): 0,
        ("web", "rest"): 0,
    }
    assert rig.reads == 0, "nothing is read as long as there is nothing"
    for port in (40000, 40001):
        rig.reset(port)
    assert rig.run(1.0) == 2
    names = [FlowName("web", Flow(TCP, CLIENT, p, VIP, 80).hash(KEY)) for p in (40000, 40001)]
    assert rig.named() == names
    rig.reset(40002)
    assert rig.run(1.0) == 3
    assert rig.run(5.0) == 3


def test_a_flow_is_counted_soon(rig: Rig) -> None:
    rig.run(1.0)
    rig.reset(40000)
    assert rig.run(2 * LOOK_SECONDS) == 1


def test_one_that_is_younger_than_the_reading_waits_for_the_next(rig: Rig) -> None:
    rig.reset(40000, age=0.0)
    rig.reset(40001)
    rig.counter.step()
    assert sum(rig.facts.current.orphans_total.values()) == 1
    assert rig.run(1.0) == 2


def test_what_has_a_socket_here_is_no_orphan(rig: Rig) -> None:
    rig.closed = {40001}
    rig.reset(40000)
    rig.reset(40001)
    assert rig.run(1.0) == 1


def test_reading_takes_three_percent_of_a_core_at_most(rig: Rig) -> None:
    rig.cost = 0.05
    begun = rig.cpu
    for number in range(300):
        rig.reset(1024 + number)
        rig.run(LOOK_SECONDS)
    assert 0 < rig.cpu - begun <= 300 * LOOK_SECONDS / REST + rig.cost


def test_the_interfaces_of_answers_are_read_now_and_then(rig: Rig) -> None:
    rig.run(1.0)
    assert rig.facts.current.answer_links == ("eth1",)


def loopback_flow(client: socket.socket, port: int) -> OurFlow:
    return OurFlow(LOOPBACK, client.getsockname()[1], LOOPBACK, port, TCP)


def test_the_kernel_knows_which_flows_have_a_socket() -> None:
    """Open ones and those in TIME-WAIT do, by a listener alone they do not."""
    with closing(socket.create_server((str(LOOPBACK), 0))) as listener:
        port = listener.getsockname()[1]
        pairs = []
        for _ in range(3):
            client = socket.create_connection((str(LOOPBACK), port))
            pairs.append((client, listener.accept()[0]))
        known = [loopback_flow(client, port) for client, _ in pairs]
        pairs[0][1].close()  # TIME-WAIT at the server, once the client has closed, too
        pairs[0][0].close()
        reset = b"\1\0\0\0\0\0\0\0"
        pairs[1][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        pairs[1][0].close()
        strangers = [OurFlow(CLIENT, 1000 + n, LOOPBACK, port, TCP) for n in range(BATCH)]
        found = have_sockets(columns([*known, *strangers, known[2]]))
        assert found.tolist() == [True, False, True, *[False] * BATCH, True]
        for pair in pairs[1:]:
            pair[1].close()
        pairs[2][0].close()


def test_flows_are_orphans_where_the_kernel_cannot_be_asked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FlowColumns) -> NDArray[np.bool_]:
        raise OSError("no inet_diag")

    monkeypatch.setattr(rig.counter, "_has_sockets", fail)
    rig.reset(40000)
    assert rig.run(1.0) == 1
