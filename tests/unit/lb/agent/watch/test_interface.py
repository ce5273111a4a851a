"""The interface as it is looked at in each pass."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from lb.agent.config import AgentConfig
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.messages import number
from lb.agent.netlink.route_socket import NetlinkError, RouteSocket
from lb.agent.netlink.routes import RT_TABLE_MAIN, RTMSG
from lb.agent.netlink.rules import FRA_TABLE
from lb.agent.watch import interface as module
from lb.agent.watch.interface import WatchedInterface, has_main_rule
from lb.agent.watch.registry import InterfaceReplacedError

DIP = IPv4Address("10.0.0.1")
GOOD = LinkInfo(3, "eth0", bytes(6), 1548, True, frozenset({DIP}))
MAIN = RTMSG.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 1, 0)
OTHER = RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 1, 0) + number(FRA_TABLE, 6080)


class World(RouteSocket):
    """What the kernel has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link: LinkInfo | NetlinkError = GOOD
        self.lo_up = True
        self.named: LinkInfo | None = GOOD
        self.rules = [MAIN, OTHER]
        monkeypatch.setattr(module, "read_link", self.read)
        monkeypatch.setattr(module, "is_up", lambda *_: self.lo_up)
        monkeypatch.setattr(module, "find_link", lambda *_: self.named)
        config = AgentConfig(name="s1", interface="eth0", dip=DIP)
        self.watched = WatchedInterface(self, config, GOOD)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        return self.rules

    def read(self, *_: Any) -> LinkInfo:
        if isinstance(self.link, NetlinkError):
            raise self.link
        return self.link

    def drifts(self) -> dict[str, str]:
        found = {thing.what: thing.look() for thing in self.watched.things()}
        return {what: drift.line for what, drift in found.items() if drift is not None}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_nothing_is_wrong_with_a_good_one(world: World) -> None:
    assert world.drifts() == {}
    assert world.watched.link == GOOD
    assert all(thing.essential for thing in world.watched.things())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"up": False}, "interface"),
        ({"mtu": 500}, "interface"),
        ({"name": "wan0"}, "interface"),
        ({"carrier": False}, "carrier"),
        ({"addresses": frozenset()}, "dip"),
    ],
)
def test_each_fault_has_its_name(world: World, change: dict[str, Any], what: str) -> None:
    world.link = replace(GOOD, **change)
    assert [*world.drifts()] == [what]
    assert (world.watched.link is None) == (what == "interface"), "an unfit one is not followed"


def test_lo_and_the_rule_for_main_are_looked_at(world: World) -> None:
    world.lo_up = False
    world.rules.remove(MAIN)
    assert [*world.drifts()] == ["lo", "main_rule"]


def test_a_machine_that_never_had_the_rule_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.rules = [OTHER]
    assert not has_main_rule(world)
    config = AgentConfig(name="s1", interface="eth0", dip=DIP)
    world.watched = WatchedInterface(world, config, GOOD)
    assert world.drifts() == {}


def test_one_that_is_gone_is_one_fault_until_another_has_its_name(world: World) -> None:
    world.link, world.named = NetlinkError(errno.ENODEV), None
    assert world.drifts() == {"interface": "interface eth0 is gone"}
    assert world.watched.link is None
    world.named = replace(GOOD, index=9)
    with pytest.raises(InterfaceReplacedError, match="eth0 was made anew"):
        world.drifts()


def test_another_refusal_is_a_look_that_failed(world: World) -> None:
    world.link = NetlinkError(errno.ENOBUFS)
    with pytest.raises(NetlinkError):
        world.drifts()
