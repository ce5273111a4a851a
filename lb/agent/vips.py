"""The VIPs on ``lo``: ours come and go with the cluster document, those of others stay."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.objects import Vip
from lb.agent import sysctls
from lb.agent.local import add_vips, local_vips, remove_vips
from lb.agent.mirror import Netlink
from lb.agent.record import Journal
from lb.agent.view import has_ipv6, in_order


class VipKeeper:
    """Owner of the VIPs that this agent, or the one before it, put on ``lo``.

    Does nothing until ``enabled``: VIPs go up only once the forwarder is attached.
    """

    def __init__(
        self,
        netlink: Netlink,
        journal: Journal,
        read: Callable[[str], str] = sysctls.read_sysctl,
        write: Callable[[str, str], None] = sysctls.write_sysctl,
    ) -> None:
        self._netlink = netlink
        self._journal = journal
        self._read = read
        self._write = write
        self.enabled = False

    def shrink(self, wanted: frozenset[Vip]) -> None:
        """Take our VIPs that are wanted no more off ``lo``: before the forwarder forgets them."""
        if not self.enabled:
            return
        remove_vips(self._netlink, [v for v in self._journal.record.vips if v not in wanted])
        self._journal.note(vips=tuple(v for v in self._journal.record.vips if v in wanted))

    def extend(self, wanted: frozenset[Vip]) -> None:
        """Put the missing VIPs on ``lo``: after the forwarder knows them."""
        if not self.enabled:
            return
        if has_ipv6(wanted):
            changes = sysctls.needed_for_ipv6(self._read)
            sysctls.change(self._journal, changes, self._write)
        missing = in_order(wanted - local_vips(self._netlink))
        ours = self._journal.record.vips
        self._journal.note(vips=(*ours, *(vip for vip in missing if vip not in ours)))
        add_vips(self._netlink, missing)
