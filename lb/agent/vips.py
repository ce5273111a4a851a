"""The VIPs on ``lo``: ours come and go with the cluster document, those of others stay."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from lb.agent.netlink import add_vip, all_addresses, remove_vip
from lb.agent.record import Journal


class VipKeeper:
    """Owner of the VIPs that this agent, or the one before it, put on ``lo``.

    Does nothing until ``enabled``: VIPs go up only once the forwarder is attached.
    """

    def __init__(
        self,
        netlink: Any,
        journal: Journal,
        *,
        add: Callable[[Any, IPv4Address], None] = add_vip,
        remove: Callable[[Any, IPv4Address], None] = remove_vip,
        addresses: Callable[[Any], dict[IPv4Address, int]] = all_addresses,
    ) -> None:
        self._netlink = netlink
        self._journal = journal
        self._add = add
        self._remove = remove
        self._addresses = addresses
        self.enabled = False

    def shrink(self, wanted: frozenset[IPv4Address]) -> None:
        """Take our VIPs that are wanted no more off ``lo``: before the forwarder forgets them."""
        if not self.enabled:
            return
        for vip in self._journal.record.vips:
            if vip not in wanted:
                self._remove(self._netlink, vip)
        self._journal.note(vips=tuple(v for v in self._journal.record.vips if v in wanted))

    def extend(self, wanted: frozenset[IPv4Address]) -> None:
        """Put the missing VIPs on ``lo``: after the forwarder knows them."""
        if not self.enabled:
            return
        missing = sorted(wanted - self._addresses(self._netlink).keys())
        ours = self._journal.record.vips
        self._journal.note(vips=(*ours, *(vip for vip in missing if vip not in ours)))
        for vip in missing:
            self._add(self._netlink, vip)
