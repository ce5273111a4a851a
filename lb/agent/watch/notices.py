"""Wakes the event loop as soon as the kernel reports a change to something that is watched.

It only wakes: what changed is found by looking. What the kernel does not report (sysctls, slots,
files, local prefixes) waits for the pass that there is every second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lb.agent.attach.clsact import RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER
from lb.agent.netlink.links import IFADDRMSG, LOOPBACK_INDEX
from lb.agent.netlink.messages import Message
from lb.agent.netlink.neighbours import INDEX, RTM_DELLINK, RTM_NEWLINK
from lb.agent.netlink.watcher import RTMGRP, Watcher
from lb.agent.vips.addresses import RTM_DELADDR, RTM_NEWADDR
from lb.agent.worker import Worker

GROUPS = RTMGRP.LINK | RTMGRP.TC | RTMGRP.IPV4_IFADDR | RTMGRP.IPV6_IFADDR
SETTLE_SECONDS = 0.02
PAUSE_SECONDS = 0.1
"""It wakes the loop at most ten times a second."""
IDLE_SECONDS = 3600.0
BY_INDEX = frozenset(
    {RTM_NEWLINK, RTM_DELLINK, RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER}
)
"""Their bodies have the interface's index at the same place (struct ifinfomsg, struct tcmsg)."""
OF_ADDRESSES = frozenset({RTM_NEWADDR, RTM_DELADDR})


def concerns(notifications: Iterable[Message], ifindex: int) -> bool:
    """Whether notifications are about our interface, or about ``lo``. Pure."""
    ours = (ifindex, LOOPBACK_INDEX)
    return any(
        (message.kind in BY_INDEX and INDEX.unpack_from(message.body)[0] in ours)
        or (message.kind in OF_ADDRESSES and IFADDRMSG.unpack_from(message.body)[4] in ours)
        for message in notifications
    )


class Notices(Worker):
    """Calls ``wake`` from its own thread."""

    def __init__(self, ifindex: int, wake: Callable[[], None]) -> None:
        super().__init__("notices")
        self._ifindex = ifindex
        self._wake = wake
        self._watcher = Watcher(GROUPS)

    def stop(self) -> None:
        """Request the end."""
        super().stop()
        self._watcher.wake()

    def step(self) -> float:
        """Follow until ``stop``."""
        with self._watcher:
            while not self.ending.is_set():
                self._watcher.wait(IDLE_SECONDS)
                self.pause(SETTLE_SECONDS)
                notifications, lost = self._watcher.notifications()
                if lost or concerns(notifications, self._ifindex):
                    self._wake()
                    self.pause(PAUSE_SECONDS)
        return 0.0
