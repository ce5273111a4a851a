"""The two programs on the interface, their slots, their pins, and who is in front of them."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lb.abi import Slot
from lb.agent.attach import bpffs, clsact, xdp
from lb.agent.attach.attachment import Attachment, Programs
from lb.agent.attach.guests import ROOT, guest_programs
from lb.agent.attach.in_front import in_front_line, in_front_remedy, programs_in_front
from lb.agent.attach.program_info import describe_program
from lb.agent.config import AgentConfig
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import NetlinkError, RouteSocket
from lb.agent.watch.addresses import shortened
from lb.agent.watch.evidence import Evidence
from lb.agent.watch.registry import Drift, Thing
from lb.dataplane.dataplane import PIN_NAMES

FORWARDER, REDIRECTOR, SLOTS, PINS = "forwarder", "redirector", "slots", "pins"
IN_FRONT, BLIND = "in_front", "redirector_packets"
PROGRAMS = frozenset({FORWARDER, REDIRECTOR})
"""Without one of these, the programs are not attached."""
RIVALS = "another program (a network plugin, a script?)"
BLIND_SECONDS = 1.0
"""Packets may wait for a moment to be merged, between the two programs."""


class WatchedPlane(Programs, Protocol):
    """The part of ``Dataplane`` that is watched."""

    def pin_again(self, directory: Path, pins: Collection[str]) -> None:
        """Pin what has lost its pin."""

    def programs_without_slot(self) -> tuple[str, ...]:
        """Return the programs that others cannot call."""

    def fill_slots(self) -> None:
        """Put each program into its slot again."""

    def counters(self) -> Mapping[str, int]:
        """Return packets by verdict."""


class WatchedPrograms:
    """What is on the interface, looked at once they are attached."""

    def __init__(
        self,
        netlink: RouteSocket,
        link: LinkInfo,
        config: AgentConfig,
        attachment: Attachment,
        plane: WatchedPlane,
    ) -> None:
        self._netlink = netlink
        self._link = link
        self._config = config
        self._attachment = attachment
        self._plane = plane
        self._directory = config.bpffs / bpffs.pin_name(config.interface)
        self._pins: Mapping[str, tuple[int, int]] = {}
        self._evidence = Evidence()

    def things(self) -> Iterator[Thing]:
        """Yield what is watched, in the order of the looks."""
        yield Thing(REDIRECTOR, self._look_at_redirector, self._attach, rivals=RIVALS)
        yield Thing(FORWARDER, self._look_at_forwarder, self._attach, rivals=RIVALS)
        yield Thing(SLOTS, self._look_at_slots, self._plane.fill_slots, rivals=RIVALS)
        yield Thing(PINS, self._look_at_pins, self._pin, essential=False, rivals=RIVALS)
        yield Thing(IN_FRONT, self._look_in_front, essential=False)
        yield Thing(BLIND, self._look_at_packets, patience_seconds=BLIND_SECONDS)

    def _attach(self) -> None:
        self._attachment.attach_again(self._plane)

    def _look_at_forwarder(self) -> Drift | None:
        name, mode = self._config.interface, self._config.xdp_mode
        try:
            attached = xdp.query_xdp(self._netlink, self._link.index)
        except NetlinkError as error:
            return self._gone("forwarder", error)
        ours = self._attachment.our_forwarders()
        if attached.of(mode) in ours:
            return None
        for foreign in sorted(attached.ids - ours):
            return Drift(
                f"another XDP program is on {name}, {describe_program(foreign)}",
                f"if nothing needs it, detach it: ip link set dev {name} xdp off",
                repairable=False,
            )
        return Drift(f"the forwarder was detached from {name}")

    def _look_at_redirector(self) -> Drift | None:
        name = self._config.interface
        try:
            filters = clsact.list_filters(self._netlink, self._link.index)
        except NetlinkError as error:
            return self._gone("redirector", error)
        ours = self._attachment.our_redirectors()
        at_our_place = [one for one in filters if one.has_our_handle]
        if any(one.program_id in ours for one in at_our_place):
            return None
        if at_our_place:
            return Drift(
                f"another tc filter is where the redirector has to be on {name}, "
                f"{describe_program(at_our_place[0].program_id)}",
                f"if nothing needs it: tc filter del dev {name} ingress prio {clsact.PRIORITY}",
                repairable=False,
            )
        return Drift(f"the redirector was detached from {name}")

    def _gone(self, program: str, error: NetlinkError) -> Drift:
        """Return the drift if the interface is gone. Another error: the look has failed."""
        if error.errno != errno.ENODEV:
            raise error
        return Drift(f"the {program} went with {self._config.interface}", repairable=False)

    def _look_at_slots(self) -> Drift | None:
        missing = self._plane.programs_without_slot()
        if not missing:
            return None
        return Drift(f"not in the arrays by which programs are called: {', '.join(missing)}")

    def _look_at_pins(self) -> Drift | None:
        now = {name: _identity(self._directory / name) for name in PIN_NAMES.values()}
        if not self._pins:  # right after they were attached
            self._pins = {name: found for name, found in now.items() if found is not None}
        lost = [name for name in now if now[name] is None or now[name] != self._pins.get(name)]
        if not lost:
            return None
        line = f"not in {self._directory}: {shortened(lost)}"
        return Drift(f"{line}; without pins, rare packets are dropped once the agent ends")

    def _pin(self) -> None:
        """Pin again what is lost; beside it, the pins of a trace stay."""
        bpffs.prepare(self._config.bpffs)
        with bpffs.swapping(self._config.bpffs, wait=False):
            lost = [
                name
                for name in PIN_NAMES.values()
                if _identity(self._directory / name) != self._pins.get(name)
                or not (self._directory / name).exists()
            ]
            self._plane.pin_again(self._directory, lost)
            self._pins = {}

    def _look_in_front(self) -> Drift | None:
        found = programs_in_front(self._netlink, self._link.index)
        if not found:
            return None
        name = self._config.interface
        return Drift(in_front_line(name, shortened(found)), in_front_remedy(name))

    def _look_at_packets(self) -> Drift | None:
        if guest_programs(self._directory / ROOT).keys() & {Slot.AFTER, Slot.AFTER_2}:
            self._evidence = Evidence()  # what they drop does not reach the redirector
            return None
        self._evidence.add(self._plane.counters())
        if not self._evidence.is_blind:
            return None
        return Drift(
            "packets that the forwarder passes do not reach the redirector: a program in front "
            "of it takes them all",
            f"see bpftool net show dev {self._config.interface}, and detach it",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is there, ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
