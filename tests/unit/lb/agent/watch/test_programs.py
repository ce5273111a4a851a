"""What is on the interface: ours, somebody else's, or nothing."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from lb.agent.attach import bpffs, clsact, xdp
from lb.agent.attach.clsact import HANDLE, PRIORITY, Filter
from lb.agent.attach.program_info import ProgramInfo
from lb.agent.attach.xdp import AttachedXdp
from lb.agent.config import AgentConfig
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import NetlinkError, RouteSocket
from lb.agent.watch import programs as module
from lb.agent.watch.programs import WatchedPrograms
from lb.agent.watch.registry import Drift
from lb.dataplane.dataplane import PIN_NAMES

DIP = IPv4Address("10.0.0.1")
LINK = LinkInfo(3, "eth0", bytes(6), 1548, True, frozenset({DIP}))
OURS = {"forwarder": 70, "redirector": 80}


class World:
    """An interface with both programs, a plane, and pins in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attached = AttachedXdp(native=70)
        self.filters = [Filter("bpf", PRIORITY, HANDLE, 80)]
        self.gone = False
        self.in_front: list[str] = []
        self.counts: dict[str, int] = {}
        self.guests: dict[int, object] = {}
        self.empty: tuple[str, ...] = ()
        self.pinned: list[str] = []
        self.config = AgentConfig(name="s1", interface="eth0", dip=DIP, bpffs=folder)
        self.pins = folder / "eth0"
        monkeypatch.setattr(xdp, "query_xdp", lambda *_: self._kernel(self.attached))
        monkeypatch.setattr(clsact, "list_filters", lambda *_: self._kernel(self.filters))
        monkeypatch.setattr(module, "describe_program", lambda number: ProgramInfo(number, "x"))
        monkeypatch.setattr(module, "programs_in_front", lambda *_: self.in_front)
        monkeypatch.setattr(module, "guest_programs", lambda _: self.guests)
        monkeypatch.setattr(bpffs, "prepare", lambda _: None)
        monkeypatch.setattr(bpffs, "swapping", lambda *_, **__: nullcontext())
        self.pin_again(self.pins, PIN_NAMES.values())
        self.pinned.clear()
        whole: Any = self
        self.watched = WatchedPrograms(RouteSocket(), LINK, self.config, whole, whole)
        self.things = {thing.what: thing for thing in self.watched.things()}

    def _kernel(self, answer: Any) -> Any:
        if self.gone:
            raise NetlinkError(errno.ENODEV)
        return answer

    # the attachment and the plane
    def our_forwarders(self) -> frozenset[int]:
        return frozenset({70})

    def our_redirectors(self) -> frozenset[int]:
        return frozenset({80})

    def attach_again(self, _: Any) -> None: ...

    def programs_without_slot(self) -> tuple[str, ...]:
        return self.empty

    def fill_slots(self) -> None: ...

    def counters(self) -> Mapping[str, int]:
        return self.counts

    def pin_again(self, directory: Path, pins: Collection[str]) -> None:
        directory.mkdir(exist_ok=True)
        for name in pins:
            (directory / name).unlink(missing_ok=True)
            (directory / name).write_text(name)
            self.pinned.append(name)

    def drift(self, what: str) -> Drift | None:
        return self.things[what].look()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_nothing_is_wrong_with_ours(world: World) -> None:
    assert [what for what in world.things if world.drift(what) is not None] == []


def test_a_detached_one_is_attached_again(world: World) -> None:
    world.attached, world.filters = AttachedXdp(), []
    for what in OURS:
        drift = world.drift(what)
        assert drift is not None
        assert drift.repairable
        assert world.things[what].repair is not None


def test_somebody_elses_is_named_and_never_replaced(world: World) -> None:
    world.attached = AttachedXdp(native=99)
    world.filters = [Filter("bpf", PRIORITY, HANDLE, 98)]
    for what, remedy in (
        ("forwarder", "ip link set dev eth0 xdp off"),
        ("redirector", "tc filter"),
    ):
        drift = world.drift(what)
        assert drift is not None
        assert not drift.repairable
        assert remedy in drift.remedy
        assert "x (id 9" in drift.line


def test_anothers_filter_beside_ours_is_no_fault(world: World) -> None:
    world.filters.append(Filter("bpf", PRIORITY + 1, HANDLE, 98))
    assert world.drift("redirector") is None


def test_programs_go_with_their_interface(world: World) -> None:
    world.gone = True
    for what in OURS:
        drift = world.drift(what)
        assert drift is not None
        assert not drift.repairable


def test_an_empty_slot_is_a_fault(world: World) -> None:
    world.empty = ("lb_forwarder_rare",)
    drift = world.drift("slots")
    assert drift is not None
    assert "lb_forwarder_rare" in drift.line


def test_a_lost_or_replaced_pin_is_made_again_and_no_other(world: World) -> None:
    assert world.drift("pins") is None
    (world.pins / "tables").unlink()
    (world.pins / "near").rename(world.pins / "old")
    (world.pins / "near").write_text("another's")
    assert world.drift("pins") is not None
    repair = world.things["pins"].repair
    assert repair is not None
    repair()
    assert sorted(world.pinned) == ["near", "tables"]
    assert world.drift("pins") is None


def test_who_is_in_front_is_named_but_may_be_harmless(world: World) -> None:
    world.in_front = ["tcx program x (id 5)"]
    drift = world.drift("in_front")
    assert drift is not None
    assert "tcx program x (id 5)" in drift.line
    assert not world.things["in_front"].essential


def test_packets_that_do_not_arrive_are_a_fault_unless_a_guest_may_drop_them(world: World) -> None:
    assert world.things["redirector_packets"].essential
    for passed in (0, 50):
        world.counts = {"pass_no_service": passed, "ok_not_gue": 3}
        drift = world.drift("redirector_packets")
    assert drift is not None
    world.guests = {3: object()}
    assert world.drift("redirector_packets") is None
