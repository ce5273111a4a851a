"""The interface's XDP hook, with real programs: whose is attached, replaced and detached."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import pytest

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach import xdp
from lb.agent.attach.attachment import Attachment
from lb.agent.attach.program_info import program_info
from lb.agent.config import AgentConfig
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.undo_record import Journal, Record
from lb.agent.netlink.links import find_link
from lb.agent.netlink.route_socket import RouteSocket
from netns.bpf import load_pass_all
from tests.dataplane.own_netns import OwnNetns, ip

T = TypeVar("T")
DIP = IPv4Address("10.0.0.2")


class Hook:
    """An interface in a namespace of its own, and programs that pass every packet."""

    def __init__(self, netns: OwnNetns) -> None:
        self._netns = netns
        self._programs: list[int] = []
        netns.run(lambda: ip("link", "add", "eth0", "type", "veth", "peer", "name", "peer"))
        for words in (
            ["address", "add", f"{DIP}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            netns.run(lambda words=words: ip(*words))  # type: ignore[misc]

    def program(self) -> tuple[int, int]:
        """Load one more program; return its descriptor and its id."""
        descriptor = load_pass_all()
        self._programs.append(descriptor)
        return descriptor, program_info(descriptor).id

    def ask(self, function: Callable[[RouteSocket, int], T]) -> T:
        """Call a function with netlink and the interface's index."""

        def inside() -> T:
            with RouteSocket() as netlink:
                return function(netlink, socket.if_nametoindex("eth0"))

        return self._netns.run(inside)

    @property
    def attached(self) -> int | None:
        return self.ask(xdp.query_xdp).native

    def attach(self, descriptor: int, old: int | None = None, remedy: str = "") -> None:
        self.ask(
            lambda netlink, index: xdp.attach_xdp(
                netlink, index, descriptor, "native", old, remedy=remedy
            )
        )

    def set_mtu(self, mtu: int) -> None:
        for name in ("eth0", "peer"):
            self._netns.run(lambda name=name: ip("link", "set", name, "mtu", str(mtu)))  # type: ignore[misc]

    def detach(self, program_id: int) -> bool:
        return self.ask(lambda netlink, i: xdp.detach_xdp(netlink, i, "native", program_id))

    def close(self) -> None:
        for descriptor in self._programs:
            os.close(descriptor)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with OwnNetns() as netns:
        found = Hook(netns)
        yield found
        found.close()


def test_ours_is_replaced_by_its_successor_and_detached(hook: Hook) -> None:
    first, first_id = hook.program()
    second, second_id = hook.program()
    hook.attach(first)
    assert hook.attached == first_id
    hook.attach(second, old=first_id)
    assert hook.attached == second_id
    assert not hook.detach(first_id)
    assert hook.attached == second_id
    assert hook.detach(second_id)
    assert hook.attached is None


def test_one_that_came_between_looking_and_attaching_is_not_lost(hook: Hook) -> None:
    foreign, foreign_id = hook.program()
    ours, ours_id = hook.program()
    newer, _ = hook.program()
    hook.attach(foreign)
    with pytest.raises(BrigadeError, match="attach the forwarder"):
        hook.attach(ours)
    with pytest.raises(BrigadeError, match="attach the forwarder"):
        hook.attach(newer, old=ours_id)
    assert hook.attached == foreign_id


def test_a_foreign_program_is_refused_by_name(hook: Hook, tmp_path: Path) -> None:
    foreign, foreign_id = hook.program()
    hook.attach(foreign)
    config = AgentConfig(name="s1", interface="eth0", dip=DIP, bpffs=tmp_path / "pins")

    def check(netlink: RouteSocket, _index: int, ours: tuple[int, ...] = ()) -> None:
        link = find_link(netlink, "eth0")
        assert link is not None
        record = Record(current_namespace(), "eth0", str(config.bpffs), forwarders=ours)
        Attachment(netlink, link, config, Journal(tmp_path, record)).check()

    with pytest.raises(BrigadeError, match="another XDP program: bb_pass_all") as refused:
        hook.ask(check)
    assert refused.value.exit_code == ExitCode.REFUSED
    assert hook.attached == foreign_id
    hook.ask(lambda netlink, index: check(netlink, index, (foreign_id,)))


@pytest.mark.parametrize(("mtu", "fits"), [(xdp.ONE_PAGE_MTU, True), (9000, False)])
def test_an_mtu_that_the_driver_does_not_take_is_named(hook: Hook, mtu: int, fits: bool) -> None:
    ours, ours_id = hook.program()
    hook.set_mtu(mtu)
    if fits:
        hook.attach(ours, remedy=xdp.remedy("native", mtu))
        assert hook.attached == ours_id
        return
    with pytest.raises(BrigadeError, match="the MTU of 9000 may be above"):
        hook.attach(ours, remedy=xdp.remedy("native", mtu))
    assert hook.attached is None


@pytest.mark.parametrize("mtu", [xdp.ONE_PAGE_MTU, 9000])
def test_a_refused_change_of_mode_leaves_the_old_forwarder(
    hook: Hook, tmp_path: Path, mtu: int
) -> None:
    """VIPs and routes stay with a forwarder that an agent cannot replace: it has to work on."""
    old, old_id = hook.program()
    new, new_id = hook.program()
    hook.set_mtu(mtu)
    hook.ask(lambda netlink, index: xdp.attach_xdp(netlink, index, old, "generic", None))
    config = AgentConfig(name="s1", interface="eth0", dip=DIP, bpffs=tmp_path / "pins")

    def change(netlink: RouteSocket, _index: int) -> None:
        link = find_link(netlink, "eth0")
        assert link is not None
        record = Record(current_namespace(), "eth0", str(config.bpffs), forwarders=(old_id,))
        made = Attachment(netlink, link, config, Journal(tmp_path, record))
        made._attach_forwarder(new)

    if mtu == xdp.ONE_PAGE_MTU:
        hook.ask(change)
        assert hook.ask(xdp.query_xdp) == xdp.AttachedXdp(native=new_id)
        return
    with pytest.raises(BrigadeError, match="the MTU of 9000 may be above"):
        hook.ask(change)
    assert hook.ask(xdp.query_xdp) == xdp.AttachedXdp(generic=old_id)
