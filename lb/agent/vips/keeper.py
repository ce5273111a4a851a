"""The VIPs on ``lo``: ours come and go with the cluster document, those of others stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from controlplane.domain.objects import Vip, is_host
from controlplane.domain.vips import has_ipv6, in_order
from lb.agent.machine import sysctls
from lb.agent.machine.undo_record import Journal
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.vips.addresses import add_vips, local_vips, remove_vips
from lb.agent.vips.conflicts import find_conflicts

IPV6 = 6
ADD_SECONDS = 0.5
POLL_SECONDS = 0.005


class VipKeeper:
    """Reconciles the VIPs on ``lo`` that this agent, or the one before it, has put there.

    Does nothing until ``enabled``: VIPs are put up only once the forwarder is attached.
    ``left_out`` are prefixes that are wanted and must not be put up here, with a line for each.
    """

    def __init__(
        self,
        netlink: RouteSocket,
        journal: Journal,
        read: Callable[[str], str] = sysctls.read_sysctl,
        write: Callable[[str, str], None] = sysctls.write_sysctl,
    ) -> None:
        self._netlink = netlink
        self._journal = journal
        self._read = read
        self._write = write
        self.enabled = False
        self.left_out: Mapping[Vip, str] = {}
        self._requested: frozenset[Vip] = frozenset()

    @property
    def trouble(self) -> str | None:
        """One line about the prefixes that are left out; ``None`` if there are none."""
        lines = [self.left_out[vip] for vip in in_order(self.left_out)]
        if not lines:
            return None
        more = f" (nor are {len(lines) - 1} more)" if lines[1:] else ""
        return f"{lines[0]}{more}; a prefix has to be one of its own, routed to the servers"

    def shrink(self, wanted: frozenset[Vip]) -> None:
        """Take our VIPs that are not wanted any more off ``lo``, before the forwarder does."""
        if not self.enabled:
            return
        remove_vips(self._netlink, [v for v in self._journal.record.vips if v not in wanted])
        self._journal.note(vips=tuple(v for v in self._journal.record.vips if v in wanted))

    def extend(self, wanted: frozenset[Vip]) -> None:
        """Put the missing VIPs on ``lo``, after the forwarder has them.

        Prefixes that would cut this server off are left out, and taken off if they are ours.
        """
        if not self.enabled:
            return
        self._requested = wanted
        present = local_vips(self._netlink)
        others = present - {*self._journal.record.vips}
        self._leave_out(find_conflicts(self._netlink, wanted, others))
        wanted -= self.left_out.keys()
        self.shrink(wanted)
        if has_ipv6(wanted):
            changes = sysctls.needed_for_ipv6(self._read)
            sysctls.change(self._journal, changes, self._write)
        missing = in_order(wanted - present)
        ours = self._journal.record.vips
        self._journal.note(vips=(*ours, *(vip for vip in missing if vip not in ours)))
        add_vips(self._netlink, missing)

    def missing(self) -> frozenset[Vip]:
        """Return the VIPs that have to be on ``lo`` and are not delivered here."""
        wanted = self._requested - self.left_out.keys()
        return wanted - local_vips(self._netlink) if wanted else frozenset()

    def put_back(self) -> None:
        """Put the missing VIPs on ``lo``, also those whose address is there without its route.

        Raises:
            BrigadeError: the kernel refuses.

        """
        self.extend(self._requested)
        if without_route := self._missing_after_adding():
            remove_vips(self._netlink, without_route)
            add_vips(self._netlink, in_order(without_route))
            self._missing_after_adding()

    def _missing_after_adding(self) -> frozenset[Vip]:
        """Return what is missing; the kernel adds the route of an IPv6 address a moment later."""
        deadline = time.monotonic() + ADD_SECONDS
        while True:
            left = self.missing()
            late = any(vip.version == IPV6 and is_host(vip) for vip in left)
            if not late or time.monotonic() >= deadline:
                return left
            time.sleep(POLL_SECONDS)

    def sysctls_to_change(self) -> dict[str, tuple[str, str]]:
        """Return what has to change for the VIPs: path below ``/proc/sys`` -> (now, wanted)."""
        return sysctls.needed_for_ipv6(self._read) if has_ipv6(self._requested) else {}

    def _leave_out(self, lines: Mapping[Vip, str]) -> None:
        for vip in in_order(lines.keys() - self.left_out.keys()):
            structlog.get_logger().warning("VIP left out", detail=lines[vip])
        self.left_out = lines
