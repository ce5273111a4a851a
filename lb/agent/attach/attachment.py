"""Attaches the programs to the interface, or replaces their predecessors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import structlog

from controlplane.domain.errors import BrigadeError
from lb.agent.attach import bpffs, clsact, guests, xdp
from lb.agent.attach.egress import EgressAttachment
from lb.agent.attach.program_info import open_program, pinned_ids
from lb.agent.config import AgentConfig, XdpMode
from lb.agent.machine import sysctls
from lb.agent.machine.undo_record import Journal
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket


class Programs(Protocol):
    """The part of ``Dataplane`` that is attached and pinned."""

    @property
    def forwarder_fd(self) -> int:
        """The XDP program."""

    @property
    def redirector_fd(self) -> int:
        """The TC program."""

    @property
    def egress_fd(self) -> int:
        """The TC program for packets that leave."""

    def program_ids(self) -> tuple[int, int, int]:
        """Return the kernel's ids of forwarder, redirector and egress program."""

    def pin(self, directory: Path) -> None:
        """Pin programs and maps."""

    def in_root(self) -> AbstractContextManager[None]:
        """Let others' programs go on to this forwarder; to the old one if the block fails."""


class Attachment:
    """Owner of what is on the interface. Checks first, records each change, then makes it."""

    def __init__(
        self, netlink: RouteSocket, link: LinkInfo, config: AgentConfig, journal: Journal
    ) -> None:
        self._netlink = netlink
        self._link = link
        self._config = config
        self._journal = journal
        self._pins = config.bpffs / bpffs.pin_name(config.interface)
        self.egress = EgressAttachment(netlink, link, config, journal)

    def our_forwarders(self) -> frozenset[int]:
        """Return the ids of XDP programs that are ours: recorded, or pinned by an agent."""
        return self._ours(self._journal.record.forwarders, bpffs.FORWARDERS)

    def our_redirectors(self) -> frozenset[int]:
        """Return the ids of TC programs that are ours."""
        return self._ours(self._journal.record.redirectors, bpffs.REDIRECTORS)

    def _ours(self, recorded: tuple[int, ...], names: Collection[str]) -> frozenset[int]:
        directories = bpffs.pin_directories(self._config.bpffs, self._config.interface)
        return frozenset(recorded) | pinned_ids(directories, names)

    def check(self) -> None:
        """Refuse if somebody else's program is where ours have to be."""
        interface = self._link.name
        attached = xdp.query_xdp(self._netlink, self._link.index)
        xdp.refuse_foreign(attached, self.our_forwarders(), interface)
        filters = clsact.list_filters(self._netlink, self._link.index)
        clsact.refuse_foreign_filter(filters, self.our_redirectors(), interface)

    def attach(self, programs: Programs) -> None:
        """Pin, then redirector, egress program, forwarder, one step each; then the old pins go.

        Others' programs continue with the new forwarder right before it is attached, or with the
        old one again if that is refused. One in another mode is detached before that, and attached
        again if it is refused. At every moment each program and map that a packet can reach is
        pinned.
        """
        forwarder, redirector, egress = programs.program_ids()
        old = sorted(self.our_forwarders())
        self._journal.note(
            forwarders=(*old, forwarder),
            redirectors=(*sorted(self.our_redirectors()), redirector),
            egresses=(*sorted(self.egress.ours()), egress),
            xdp_mode=self._config.xdp_mode,
            directories_made=self._directories(),
        )
        base, interface = self._config.bpffs, self._config.interface
        bpffs.prepare(base)
        fresh = bpffs.fresh_directory(base, interface)
        programs.pin(fresh)
        with bpffs.swapping(base):
            self._remove_unused(fresh)
            self._add_clsact()
            clsact.attach_filter(self._netlink, self._link.index, programs.redirector_fd)
            self._attach_egress(programs)
            with programs.in_root():
                self._attach_forwarder(programs.forwarder_fd)
            self._warn_of_abandoned(fresh)
            bpffs.swap_in(base, interface, fresh)
        self._journal.note(forwarders=(forwarder,), redirectors=(redirector,), egresses=(egress,))
        self._log_guests()

    def attach_again(self, programs: Programs) -> None:
        """Put what somebody has detached back where it was; nobody else's program is replaced.

        Raises:
            BrigadeError: another's is there, or the kernel refuses.
            BlockingIOError: another process is changing what is attached.

        """
        with bpffs.swapping(self._config.bpffs, wait=False):
            self.check()
            self._add_clsact()
            if not clsact.has_our_filter(self._netlink, self._link.index, self.our_redirectors()):
                clsact.attach_filter(self._netlink, self._link.index, programs.redirector_fd)
            attached = xdp.query_xdp(self._netlink, self._link.index)
            if attached.of(self._config.xdp_mode) not in self.our_forwarders():
                self._attach_forwarder(programs.forwarder_fd)

    def set_sysctls(self) -> None:
        """Set what VIPs on ``lo`` need."""
        changes = sysctls.needed_sysctls(self._link.name, sysctls.read_sysctl)
        sysctls.change(self._journal, changes, sysctls.write_sysctl)

    def is_attached(self) -> bool:
        """Whether programs of ours are on the interface, this agent's or those of the last one."""
        attached = xdp.query_xdp(self._netlink, self._link.index)
        if attached.of(self._config.xdp_mode) not in self.our_forwarders():
            return False
        return clsact.has_our_filter(self._netlink, self._link.index, self.our_redirectors())

    def _directories(self) -> tuple[str, ...]:
        made = self._journal.record.directories_made
        missing = (str(path) for path in bpffs.missing_directories(self._config.bpffs))
        return (*made, *(path for path in missing if path not in made))

    def _remove_unused(self, fresh: Path) -> None:
        """Remove the pins of agents that were killed while starting, unless they are attached."""
        link = self._link.index
        filters = clsact.list_filters(self._netlink, link)
        attached = xdp.query_xdp(self._netlink, link).ids | {f.program_id for f in filters}
        names = (*bpffs.FORWARDERS, *bpffs.REDIRECTORS)
        for directory in bpffs.leftovers(self._config.bpffs, self._config.interface):
            if directory != fresh and not pinned_ids([directory], names) & attached:
                bpffs.remove_pins(directory)

    def _warn_of_abandoned(self, fresh: Path) -> None:
        """Log others' programs in an array of another version, which is not used any more.

        Moved to the new one they would jump through the old one, which is empty without a pin.
        """
        old = self._pins / guests.ROOT
        for slot, program in guests.abandoned_programs(old, fresh / guests.ROOT).items():
            structlog.get_logger().warning(
                "another XDP program is not run any more: this version has a root array of its "
                "own; load the program anew with that, and put it there",
                slot=int(slot),
                program=str(program),
                root=str(old),
            )

    def _log_guests(self) -> None:
        """Log others' programs before and after the forwarder."""
        for slot, program in guests.guest_programs(self._pins / guests.ROOT).items():
            structlog.get_logger().info(
                "another XDP program runs beside the forwarder",
                slot=int(slot),
                program=str(program),
            )

    def _add_clsact(self) -> None:
        if not clsact.has_clsact(self._netlink, self._link.index):
            self._journal.note(clsact_made=True)
            clsact.add_clsact(self._netlink, self._link.index)

    def _attach_egress(self, programs: Programs) -> None:
        """Attach the egress program, if that is possible: no packet needs it."""
        try:
            self.egress.attach_where_it_was(programs.egress_fd)
        except (BrigadeError, OSError) as error:
            structlog.get_logger().warning("broken connections are not counted", reason=str(error))

    def _attach_forwarder(self, descriptor: int) -> None:
        mode, link = self._config.xdp_mode, self._link
        attached = xdp.query_xdp(self._netlink, link.index)
        with self._other_mode_detached(attached):
            remedy = xdp.remedy(mode, link.mtu)
            xdp.attach_xdp(
                self._netlink, link.index, descriptor, mode, attached.of(mode), remedy=remedy
            )

    @contextmanager
    def _other_mode_detached(self, attached: xdp.AttachedXdp) -> Iterator[None]:
        """Detach our program in the other mode; if the block fails, attach it again."""
        mode: XdpMode = "generic" if self._config.xdp_mode == "native" else "native"
        old = attached.of(mode)
        if old is None:
            yield
            return
        # ours, or check() would have refused: the mode was changed
        structlog.get_logger().warning(
            "the XDP mode changes: the forwarder is detached for a moment",
            mode=self._config.xdp_mode,
        )
        with open_program(old) as descriptor:
            detached = xdp.detach_xdp(self._netlink, self._link.index, mode, old)
            try:
                yield
            except BaseException:
                if detached:
                    xdp.attach_xdp(self._netlink, self._link.index, descriptor, mode, None)
                raise
