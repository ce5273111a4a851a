"""The egress program on the interfaces that answers leave by: attached, put back, reported."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.attach import clsact, egress
from lb.agent.attach.clsact import PRIORITY, Filter, Hook
from lb.agent.attach.egress import EgressAttachment
from lb.agent.attach.program_info import ProgramInfo
from lb.agent.config import AgentConfig
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.watch.egress import WatchedEgress
from lb.agent.watch.registry import Thing

DIP = IPv4Address("10.0.0.1")
LINK = LinkInfo(3, "eth0", bytes(6), 1548, True, frozenset({DIP}))
OURS = 90


class World:
    """Interfaces, what is attached to their egress, and the routes' interfaces."""

    egress_fd = 9

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.links: tuple[str, ...] = ("eth0",)
        self.indices = {"lo": 1, "eth0": 3, "eth1": 4, "eth2": 5}
        self.filters: dict[int, list[Filter]] = {index: [] for index in self.indices.values()}
        self.qdiscs = {3}
        self.refused: set[int] = set()
        config = AgentConfig(name="s1", interface="eth0", dip=DIP, bpffs=folder / "pins")
        record = Record(NamespaceId("boot", "net"), "eth0", str(config.bpffs), egresses=(OURS,))
        self.journal = Journal(folder, record)
        self.folder = folder
        monkeypatch.setattr(egress, "link_indices", lambda _: self.indices)
        monkeypatch.setattr(egress, "describe_program", lambda number: ProgramInfo(number, "x"))
        monkeypatch.setattr(egress, "pinned_ids", lambda *_: frozenset())
        monkeypatch.setattr(clsact, "has_clsact", lambda _, index: index in self.qdiscs)
        monkeypatch.setattr(clsact, "add_clsact", lambda _, index: self.qdiscs.add(index))
        monkeypatch.setattr(clsact, "remove_clsact_if_unused", self.remove_qdisc)
        monkeypatch.setattr(clsact, "list_filters", lambda _, index, __: self.filters[index])
        monkeypatch.setattr(clsact, "attach_filter", self.attach)
        monkeypatch.setattr(clsact, "detach_filter", self.detach)
        self.attachment = EgressAttachment(RouteSocket(), LINK, config, self.journal)
        plane: Any = self
        watched = WatchedEgress(config, self.attachment, plane, lambda: self.links)
        (self.thing,) = watched.things()

    def attach(self, _: Any, index: int, descriptor: int, hook: Hook) -> None:
        assert (descriptor, hook.side) == (9, "egress")
        on_disk = read_record(self.folder)
        assert index == LINK.index or (on_disk and self.name(index) in on_disk.egress_links)
        if index in self.refused:
            raise BrigadeError("cannot attach the egress program: no")
        self.filters[index] = [Filter("bpf", PRIORITY, hook.handle, OURS)]

    def detach(self, _: Any, index: int, ours: frozenset[int], hook: Hook) -> bool:
        was = len(self.filters[index])
        self.filters[index] = [
            f for f in self.filters[index] if not (f.is_at(hook) and f.program_id in ours)
        ]
        return len(self.filters[index]) < was

    def remove_qdisc(self, _: Any, index: int) -> bool:
        self.qdiscs.discard(index)
        return True

    def name(self, index: int) -> str:
        return next(name for name, found in self.indices.items() if found == index)

    def put_back(self) -> None:
        assert self.thing.repair is not None
        self.thing.repair()

    def on(self) -> set[str]:
        return {self.name(index) for index, found in self.filters.items() if found}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    made.attachment.attach_where_it_was(made.egress_fd)
    return made


def look(thing: Thing) -> str | None:
    drift = thing.look()
    return drift.line if drift else None


def test_it_follows_the_routes_and_stays_where_it_was(world: World) -> None:
    assert (look(world.thing), world.on()) == (None, {"eth0"})
    world.links = ("eth0", "eth1")
    assert (look(world.thing), world.on()) == (None, {"eth0", "eth1"}), "which is no repair"
    assert world.journal.record.egress_links == ("eth1",)
    assert world.journal.record.clsact_links == ("eth1",)
    world.links = ("eth0",)
    assert (look(world.thing), world.on()) == (None, {"eth0", "eth1"})


@pytest.mark.parametrize("name", ["eth0", "eth1"])
def test_a_detached_one_is_put_back(world: World, name: str) -> None:
    world.links = ("eth1",)
    assert look(world.thing) is None
    world.filters[world.indices[name]] = []
    assert f"not on {name}:" in (look(world.thing) or "")
    world.put_back()
    assert (look(world.thing), world.on()) == (None, {"eth0", "eth1"})
    assert not world.thing.essential, "packets do not need it"


@pytest.mark.parametrize("name", ["eth0", "eth1"])
def test_somebody_elses_filter_is_named_and_never_replaced(world: World, name: str) -> None:
    index = world.indices[name]
    hook = clsact.EGRESS_PROGRAM if name == "eth0" else clsact.egress_of(3)
    world.links = ("eth1",)
    assert look(world.thing) is None
    world.filters[index] = foreign = [Filter("bpf", PRIORITY, hook.handle, 98)]
    assert f"not on {name}:" in (look(world.thing) or "")
    with pytest.raises(BrigadeError, match=f"another tc filter .* {name}, x .id 98"):
        world.put_back()
    with pytest.raises(BrigadeError, match="another tc filter"):
        world.attachment.attach_where_it_was(world.egress_fd)
    assert world.filters[index] == foreign


def test_what_cannot_be_attached_is_reported(world: World) -> None:
    world.links, world.refused = ("eth1",), {4}
    with pytest.raises(BrigadeError, match="no"):
        world.thing.look()
    assert "not on eth1:" in (look(world.thing) or "")


def test_another_agents_filter_beside_it_does_not_count(world: World) -> None:
    """Two agents of one machine, each with an interface of its own, share the others."""
    mine, other = clsact.egress_of(3), clsact.egress_of(5)
    assert mine.handle != other.handle
    world.links = ("eth1",)
    world.filters[4] = [Filter("bpf", PRIORITY, other.handle, OURS)]
    assert look(world.thing) is None
    assert world.filters[4][0].handle == mine.handle


def test_an_interface_that_is_gone_is_not_missed(world: World) -> None:
    world.links = ("eth1", "eth9")
    assert look(world.thing) is None


def test_a_new_agent_replaces_it_everywhere(world: World) -> None:
    world.links = ("eth1",)
    assert look(world.thing) is None
    for found in world.filters.values():
        found.clear()
    world.attachment.attach_where_it_was(world.egress_fd)
    assert world.on() == {"eth0", "eth1"}


def test_it_is_taken_off_all_interfaces(world: World) -> None:
    world.links, world.qdiscs = ("eth1", "eth2"), {3, 5}
    assert look(world.thing) is None
    record = world.journal.record
    assert sorted(egress.detach(RouteSocket(), record, frozenset({OURS}))) == [
        *("eth0", "eth1", "eth2")
    ]
    assert world.on() == set()
    assert world.qdiscs == {3, 5}, "our own went, and nobody else's"
