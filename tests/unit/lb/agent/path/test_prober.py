"""The thread of the probes: whom it follows, what it reports, and what a failure of its is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, ClassVar

import pytest

from controlplane.domain.objects import PathReport, ServerState
from lb.agent.facts import SharedFacts
from lb.agent.path import prober as module
from lb.agent.path.packet import Probe
from lb.agent.path.prober import PathProber
from lb.agent.path.schedule import Fleet
from tests.unit.lb.agent.fakes import a_cluster, dip
from tests.unit.lb.agent.path.test_packet import echo_reply


class FakeSockets:
    """Sends to peers that answer at once, except to some."""

    silent: ClassVar[set[IPv4Address]] = set()
    refused: ClassVar[OSError | None] = None

    def __init__(self, own: IPv4Address, gue_port: int) -> None:
        self.own, self.gue_port = own, gue_port
        self._replies: list[bytes] = []
        self._readable, self._writable = os.pipe()
        self._count = 0

    def make(self, target: IPv4Address, size: int) -> Probe:
        self._count += 1
        return Probe(self.own, target, 1, 1, self._count.to_bytes(16, "big"), size)

    def send(self, probe: Probe) -> None:
        if FakeSockets.refused is not None:
            raise FakeSockets.refused
        if probe.target not in FakeSockets.silent:
            self._replies.append(echo_reply(probe)[:128])

    def received(self) -> Iterator[bytes]:
        replies, self._replies = self._replies, []
        yield from replies

    def fileno(self) -> int:
        return self._readable

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._writable)


class World:
    """A prober with a clock of its own that never waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        FakeSockets.silent, FakeSockets.refused = set(), None
        self.now = 100.0
        self.facts = SharedFacts(0.0)
        self.mtus: list[int | None] = []
        whole: Any = self
        monkeypatch.setattr(module, "ProbeSockets", FakeSockets)
        monkeypatch.setattr(module, "time", whole)
        monkeypatch.setattr(module, "select", whole)
        self.changes = 0
        self.prober = PathProber("s1", dip(1), self.facts, self.mtus.append, self.changed)

    def changed(self) -> None:
        self.changes += 1

    def monotonic(self) -> float:
        return self.now

    def select(self, *_: object) -> None:
        self.now += 0.05

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.prober.step()

    @property
    def report(self) -> PathReport | None:
        return self.facts.current.path_report


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.prober.stop()
    made.prober.run()


def test_before_it_knows_anybody_it_reports_nothing(world: World) -> None:
    assert world.prober.step() == 0.0
    assert world.report is None


def test_peers_are_the_others_with_what_is_known_of_them(world: World) -> None:
    world.prober.follow(a_cluster(1, (1, 2, 3)), 1500)
    world.run(3.0)
    assert world.report == PathReport(2)
    assert set(world.facts.current.paths) == {"s2", "s3"}
    FakeSockets.silent = {dip(3)}
    world.run(3.0)
    assert world.report == PathReport(2, ("s3",))
    assert "s3" in world.facts.current.troubles["paths"]
    assert world.changes == 1, "the status file is written at once, and once"
    FakeSockets.silent = set()
    world.run(3.0)
    assert world.report == PathReport(2)
    assert world.facts.current.troubles == {}


def test_a_server_that_is_down_is_probed_without_trouble(world: World) -> None:
    states = {3: ServerState.DOWN}
    world.prober.follow(a_cluster(1, (1, 2, 3), states=states), 1500)
    world.run(3.0)
    FakeSockets.silent = {dip(3)}
    world.run(3.0)
    assert world.report == PathReport(2, ("s3",))
    assert world.facts.current.troubles == {}


def test_a_server_that_comes_back_is_lost_only_by_what_is_lost_from_then_on(world: World) -> None:
    """After a planned `down` and `up`, all others had a TROUBLE about filters for a moment."""
    down = a_cluster(1, (1, 2, 3), states={3: ServerState.DOWN})
    world.prober.follow(down, 1500)
    world.run(3.0)
    FakeSockets.silent = {dip(3)}
    world.run(3.0)
    FakeSockets.silent = set()
    world.prober.follow(a_cluster(2, (1, 2, 3)), 1500)
    world.run(0.1)
    assert world.report == PathReport(2)
    assert world.facts.current.troubles == {}
    world.run(3.0)
    world.prober.follow(down, 1500)
    FakeSockets.silent = {dip(3)}
    world.run(3.0)
    world.prober.follow(a_cluster(4, (1, 2, 3)), 1500)
    world.run(3.0)
    assert world.report == PathReport(2, ("s3",)), "but it must answer"


def test_who_is_not_in_the_cluster_probes_nobody(world: World) -> None:
    world.prober.follow(a_cluster(1, (2, 3)), 1500)
    world.run(3.0)
    assert world.report == PathReport()


def test_a_refused_probe_is_this_machines_trouble_and_no_loss(world: World) -> None:
    world.prober.follow(a_cluster(1, (1, 2)), 1500)
    world.run(3.0)
    FakeSockets.refused = PermissionError(1, "Operation not permitted")
    world.run(3.0)
    assert world.report == PathReport(1)
    assert "not permitted" in world.facts.current.troubles["paths_send"]
    FakeSockets.refused = None
    world.run(3.0)
    assert world.facts.current.troubles == {}


def test_a_machine_without_raw_sockets_reports_that_and_tries_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(module, "ProbeSockets", refuse)
        world.prober.follow(a_cluster(1, (1, 2)), 1500)
        assert world.prober.step() > 0
        assert "not permitted" in world.facts.current.troubles["paths_send"]
    world.run(3.0)
    assert world.report == PathReport(1)
    assert world.facts.current.troubles == {}


def test_another_port_opens_other_sockets(world: World) -> None:
    world.prober.follow(a_cluster(1, (1, 2)), 1500)
    world.run(1.0)
    world.prober.follow(a_cluster(2, (1, 2), gue_port=6081), 1500)
    world.run(1.0)
    sockets = world.prober._sockets
    assert sockets
    assert sockets.gue_port == 6081


def test_a_narrower_path_is_passed_on_once(world: World) -> None:
    world.prober.follow(a_cluster(1, (1, 2)), 1600)
    world.run(2.0)
    schedule = world.prober._schedule
    assert schedule
    assert isinstance(schedule._fleet, Fleet)
    schedule.paths["s2"].mtu.known = 1500
    world.run(1.0)
    assert world.mtus == [1500]
    schedule.paths["s2"].mtu.known = None
    world.run(1.0)
    assert world.mtus == [1500, None]
